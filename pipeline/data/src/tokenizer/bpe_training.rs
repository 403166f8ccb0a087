//! Byte-pair encoding learnt from word counts (Sennrich et al. 2016, arXiv:1508.07909).
//!
//! `tokenizers` has a trainer, whose order of merges depends on a randomly seeded hash map where two pairs spell the
//! same token, and which counts in 32 bits. This one is a function of the counts alone and agrees with it elsewhere.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// Pairs seen less often are not merged: a token seen once saves nothing.
const MIN_FREQUENCY: u64 = 2;

type Pair = (u32, u32);

/// Tokens in the order of their ids, and the merges in the order in which they apply.
pub(super) struct Bpe {
    pub(super) tokens: Vec<String>,
    pub(super) merges: Vec<(String, String)>,
}

/// Learns merges until `vocab_size` tokens are reached or no pair is frequent enough.
///
/// `tokens` are the special tokens and then one for each byte; `byte_ids` maps bytes to their tokens.
pub(super) fn learn(tokens: Vec<String>, byte_ids: &[u32; 256], words: HashMap<String, u64>, vocab_size: usize) -> Bpe {
    let mut words: Vec<(String, u64)> = words.into_iter().collect();
    words.sort_unstable();
    let words = words
        .into_iter()
        .map(|(word, count)| (word.bytes().map(|byte| byte_ids[usize::from(byte)]).collect(), count))
        .collect();
    let ids = tokens.iter().cloned().zip(0..).collect();
    let mut learner = Learner { words, counts: HashMap::new(), places: HashMap::new(), queue: BinaryHeap::new() };
    learner.count_all();
    let mut bpe = Bpe { tokens, merges: Vec::new() };
    learner.run(&mut bpe, ids, vocab_size);
    bpe
}

struct Learner {
    /// Tokens and occurrences of each distinct word.
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// Words in which the pair is or once was.
    places: HashMap<Pair, BTreeSet<u32>>,
    /// Counts may be out of date: they are checked when they come up. Ties go to the smaller ids.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Learner {
    fn count_all(&mut self) {
        for (place, (word, count)) in self.words.iter().enumerate() {
            for pair in word.windows(2).map(|pair| (pair[0], pair[1])) {
                *self.counts.entry(pair).or_default() += count;
                self.places.entry(pair).or_default().insert(place as u32);
            }
        }
        self.queue = self.counts.iter().map(|(pair, count)| (*count, Reverse(*pair))).collect();
    }

    fn run(&mut self, bpe: &mut Bpe, mut ids: HashMap<String, u32>, vocab_size: usize) {
        let mut merged: HashMap<Pair, u32> = HashMap::new();
        while bpe.tokens.len() < vocab_size {
            let Some((count, Reverse(pair))) = self.queue.pop() else { break };
            let current = self.counts.get(&pair).copied().unwrap_or_default();
            if current != count {
                if current >= MIN_FREQUENCY {
                    self.queue.push((current, Reverse(pair)));
                }
                continue;
            }
            if count < MIN_FREQUENCY {
                break;
            }
            let id = *merged.entry(pair).or_insert_with(|| {
                let (left, right) = (bpe.tokens[pair.0 as usize].clone(), bpe.tokens[pair.1 as usize].clone());
                // Two pairs may spell one token; both merges are kept, the token is one.
                let id = *ids.entry(format!("{left}{right}")).or_insert_with_key(|token| {
                    bpe.tokens.push(token.clone());
                    bpe.tokens.len() as u32 - 1
                });
                bpe.merges.push((left, right));
                id
            });
            self.merge(pair, id);
        }
    }

    /// Replaces the pair by `id` in every word, and brings the counts up to date.
    fn merge(&mut self, pair: Pair, id: u32) {
        let mut grown = BTreeSet::new();
        for place in self.places.remove(&pair).unwrap_or_default() {
            let (word, count) = &mut self.words[place as usize];
            let Some(shorter) = replace(word, pair, id) else { continue };
            for pair in word.windows(2) {
                if let Some(total) = self.counts.get_mut(&(pair[0], pair[1])) {
                    *total -= *count;
                }
            }
            *word = shorter;
            for pair in word.windows(2).map(|pair| (pair[0], pair[1])) {
                *self.counts.entry(pair).or_default() += *count;
                if pair.0 == id || pair.1 == id {
                    self.places.entry(pair).or_default().insert(place);
                    grown.insert(pair);
                }
            }
        }
        self.queue.extend(grown.into_iter().map(|pair| (self.counts[&pair], Reverse(pair))));
    }
}

/// `word` with `id` for each occurrence of the pair, from the left; `None` where there is none.
fn replace(word: &[u32], pair: Pair, id: u32) -> Option<Vec<u32>> {
    let mut shorter = Vec::with_capacity(word.len());
    let mut at = 0;
    while at < word.len() {
        if at + 1 < word.len() && (word[at], word[at + 1]) == pair {
            shorter.push(id);
            at += 2;
        } else {
            shorter.push(word[at]);
            at += 1;
        }
    }
    (shorter.len() < word.len()).then_some(shorter)
}

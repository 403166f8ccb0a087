//! The floor is one: what predicts without knowing the grammar stays above it.

use std::collections::{HashMap, HashSet};

use super::{
    super::{Floor, Split},
    stories,
};

fn floor(split: Split, count: usize) -> Floor {
    let mut floor = Floor::default();
    stories(split, count).iter().for_each(|story| floor.add(story.nats, story.text.len()));
    floor
}

/// Bits per byte on held-out stories of a model of `order` words with add-k smoothing.
fn words_bits_per_byte(order: usize, k: f64) -> f64 {
    let pieces = |text: &str| -> Vec<String> {
        let start = std::iter::repeat_n(String::new(), order - 1);
        start.chain(text.split(' ').map(str::to_string)).chain([String::from("\n")]).collect()
    };
    let (mut grams, mut contexts, mut words) = (HashMap::new(), HashMap::new(), HashSet::new());
    for story in stories(Split::Train, 4000) {
        let pieces = pieces(&story.text);
        for gram in pieces.windows(order) {
            *grams.entry(gram.to_vec()).or_insert(0.0) += 1.0;
            *contexts.entry(gram[..order - 1].to_vec()).or_insert(0.0) += 1.0;
        }
        words.extend(pieces);
    }
    let mut scored = Floor::default();
    for story in stories(Split::Valid, 200) {
        let pieces = pieces(&story.text);
        let nats = pieces.windows(order).map(|gram| {
            let seen = grams.get(gram).copied().unwrap_or(0.0) + k;
            -f64::ln(seen / (contexts.get(&gram[..order - 1]).copied().unwrap_or(0.0) + k * words.len() as f64))
        });
        scored.add(nats.sum(), story.text.len());
    }
    scored.bits_per_byte()
}

#[test]
fn counts_of_words_stay_far_above_the_floor() {
    let floor = floor(Split::Valid, 200).bits_per_byte();
    let (bigrams, trigrams) = (words_bits_per_byte(2, 0.01), words_bits_per_byte(3, 0.01));
    assert!(bigrams > 2.0 * floor && trigrams > 2.0 * floor, "{floor} {bigrams} {trigrams}");
}

#[test]
fn a_compressor_stays_far_above_the_floor() {
    let stories = stories(Split::Valid, 3000);
    let text: String = stories.iter().map(|story| story.text.as_str()).collect();
    let column: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec![text.as_str()]));
    let compressed = super::files::bytes_of_one_column(column);
    let bits_per_byte = 8.0 * compressed as f64 / text.len() as f64;
    let floor = floor(Split::Valid, 3000).bits_per_byte();
    assert!(bits_per_byte > 2.0 * floor, "{bits_per_byte} {floor}");
}

/// Two samples of one distribution have one entropy: the deviation of a story's nats is about 9.
#[test]
fn both_splits_have_the_same_floor() {
    let (train, valid) = (floor(Split::Train, 4000).bits_per_byte(), floor(Split::Valid, 2000).bits_per_byte());
    assert!((train / valid - 1.0).abs() < 0.02, "{train} {valid}");
}

#[test]
fn bits_per_byte_divide_nats_by_ln_two_and_bytes() {
    let mut floor = Floor::default();
    assert_eq!(floor.bits_per_byte(), 0.0);
    floor.add(std::f64::consts::LN_2 * 6.0, 8);
    assert!((floor.bits_per_byte() - 0.75).abs() < 1e-12);
}

//! Writing by weighted choices, whose probabilities are counted.

use limbeck_random::Stream;

use super::words::capitalized;

/// Where choices come from: a generator of random numbers, or a script that replays or tries them out.
pub(super) trait Choices {
    /// Index of the option that is taken; option `i` has probability `weights[i] / total`.
    ///
    /// `written` is the number of bytes of text before the choice.
    fn choose(&mut self, weights: &[u32], total: u64, written: usize) -> usize;
}

impl Choices for Stream {
    fn choose(&mut self, weights: &[u32], total: u64, _written: usize) -> usize {
        let mut rest = self.below(total);
        let taken = weights.iter().position(|&weight| {
            let here = rest < u64::from(weight);
            rest = rest.wrapping_sub(u64::from(weight));
            here
        });
        taken.unwrap_or(0)
    }
}

/// A text that is being written.
pub(super) struct Pen<'c> {
    choices: &'c mut dyn Choices,
    text: String,
    nats: f64,
}

impl<'c> Pen<'c> {
    pub(super) fn new(choices: &'c mut dyn Choices) -> Pen<'c> {
        Pen { choices, text: String::new(), nats: 0.0 }
    }

    /// Makes a choice; every option must show in the text, or different choices would give the same text.
    ///
    /// # Panics
    /// If every weight is zero.
    pub(super) fn choose(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        assert!(total > 0, "a choice without options, after `{}`", self.text);
        let taken = self.choices.choose(weights, total, self.text.len());
        // The pure Rust logarithm: the platform's differ in the last bit, and files should not.
        self.nats -= libm::log(f64::from(weights[taken]) / total as f64);
        taken
    }

    /// One of `options`, weighted.
    pub(super) fn pick<'t, T>(&mut self, options: &'t [(u32, T)]) -> &'t T {
        let weights: Vec<u32> = options.iter().map(|(weight, _)| *weight).collect();
        &options[self.choose(&weights)].1
    }

    /// An index below `count` by Zipf's law, the ranks rotated by `context`, so that each context has a favourite.
    pub(super) fn rank(&mut self, count: usize, context: usize) -> usize {
        let weights: Vec<u32> = (0..count).map(|index| zipf((index + context) % count)).collect();
        self.choose(&weights)
    }

    /// Appends a sentence.
    pub(super) fn say(&mut self, sentence: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(&capitalized(sentence));
    }

    /// What is written, taken away.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// -ln of the probability of all choices so far.
    pub(super) fn nats(&self) -> f64 {
        self.nats
    }
}

/// Weight of a rank: 1 / (rank + 4), the offset of Mandelbrot's form keeping the first ranks apart but comparable.
pub(super) fn zipf(rank: usize) -> u32 {
    10_000 / (rank as u32 + 4)
}

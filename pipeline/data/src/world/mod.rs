//! A small world with its own grammar, whose texts have exactly known probabilities.
//!
//! [`World`] tells stories about people, places, things, wants, sums, causes and effects, and answers questions about
//! them. The facts are fixed and stand in `tables.txt`; the seed decides only which of them are told. A story is a
//! sequence of weighted choices, each of which shows in the text, so different choices give different texts and the
//! probability of a text is the product of the probabilities of its choices. Hence the loss of a perfect model is
//! known: [`Floor`].
//!
//! ```text
//! tables.txt ─ facts ─┬─ story ─ scenes ─ money, company ─┬─ documents ─┬─ write_parquet
//!                     └─ questions, relations ─ chats ────┘    pen: choices and their probabilities
//! ```
//!
//! ```
//! use limbeck_data::world::{Split, World};
//!
//! let world = World::new(7);
//! let story = world.documents(Split::Train, 1).next().ok_or("no story")?;
//! assert!(story.text.len() > 200 && story.nats > 20.0);
//! # Ok::<(), &str>(())
//! ```

mod chats;
mod company;
mod facts;
mod files;
mod money;
mod pen;
mod questions;
mod relations;
mod scenes;
mod story;
#[cfg(test)]
mod tests;
mod words;

pub use chats::Chat;
pub(crate) use files::messages_column;
pub use files::{WorldCounts, WorldFile, WorldReport, write_parquet};

use limbeck_random::Stream;

use facts::Facts;
use pen::Pen;

/// One text in this many is held out.
const HELD_OUT_DOCUMENTS: u64 = 16;

/// Which part of the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// What models are trained on.
    Train,
    /// What is held out.
    Valid,
}

impl Split {
    /// The word in file names and ids.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Valid => "valid",
        }
    }
}

/// A story.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// English sentences on one line.
    pub text: String,
    /// -ln of the text's probability under the grammar, its end included.
    pub nats: f64,
}

/// The loss of a perfect model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Floor {
    /// Sum of -ln of the probabilities.
    pub nats: f64,
    /// UTF-8 bytes that the sum is over.
    pub bytes: u64,
}

impl Floor {
    /// Adds a text of known probability.
    pub fn add(&mut self, nats: f64, bytes: usize) {
        self.nats += nats;
        self.bytes += bytes as u64;
    }

    /// Bits per UTF-8 byte; 0 without any bytes.
    pub fn bits_per_byte(&self) -> f64 {
        if self.bytes == 0 { 0.0 } else { self.nats / std::f64::consts::LN_2 / self.bytes as f64 }
    }
}

/// The world, telling by one seed.
pub struct World {
    seed: u64,
    facts: Facts,
}

impl World {
    /// The same facts for every seed, other stories for another.
    pub fn new(seed: u64) -> World {
        World { seed, facts: Facts::new() }
    }

    /// The first `count` stories of a split; the `i`-th is a function of seed, split and `i`.
    ///
    /// A text belongs to one split for good, by its hash, whatever the seeds and counts. `nats` is of the grammar's
    /// distribution: that it fell into this split is not predictable from a text, and not subtracted.
    pub fn documents(&self, split: Split, count: usize) -> impl Iterator<Item = Document> + '_ {
        (0..count).map(move |index| {
            let mut random = self.random("documents", split, index);
            loop {
                let mut pen = Pen::new(&mut random);
                story::tell(&self.facts, &mut pen);
                let (nats, text) = (pen.nats(), pen.take());
                if split_of_text(&text) == split {
                    return Document { text, nats };
                }
            }
        })
    }

    /// The first `count` conversations of a split; the `i`-th is a function of seed, split and `i`.
    ///
    /// The last question of a held-out conversation is one that no training conversation asks or answers.
    pub fn chats(&self, split: Split, count: usize) -> impl Iterator<Item = Chat> + '_ {
        (0..count).map(move |index| chats::converse(&self.facts, split, &mut self.random("chats", split, index)))
    }

    fn random(&self, kind: &str, split: Split, index: usize) -> Stream {
        Stream::new(hash(&format!("world {} {kind} {} {index}", self.seed, split.name())))
    }
}

fn split_of_text(text: &str) -> Split {
    if hash(text).is_multiple_of(HELD_OUT_DOCUMENTS) { Split::Valid } else { Split::Train }
}

/// The first eight bytes of BLAKE3, little-endian.
fn hash(text: &str) -> u64 {
    blake3::hash(text.as_bytes()).as_bytes().iter().take(8).rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

//! Captures that several processes share.

use std::fmt;
use std::str::FromStr;

use crate::error::LogitsError;

/// One of `count` processes that capture together: part `i` is of shard `i` modulo `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Default for Shard {
    /// One process alone.
    fn default() -> Shard {
        Shard { index: 0, count: 1 }
    }
}

impl Shard {
    /// Whether a part is of this shard.
    pub fn holds(self, part: u32) -> bool {
        part % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = LogitsError;

    /// Reads `3/16`.
    fn from_str(text: &str) -> Result<Shard, LogitsError> {
        let numbers = text.split_once('/').and_then(|(index, count)| index.parse().ok().zip(count.parse().ok()));
        match numbers {
            Some((index, count)) if index < count => Ok(Shard { index, count }),
            _ => Err(LogitsError::Shard { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_of_exactly_one_shard() {
        let shards: Vec<Shard> = (0..3).map(|index| format!("{index}/3").parse().expect("a shard")).collect();
        for part in 0..20 {
            assert_eq!(shards.iter().filter(|shard| shard.holds(part)).count(), 1);
        }
        assert!((0..20).all(|part| Shard::default().holds(part)));
        assert_eq!(shards[2].to_string(), "2/3");
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "3", "3/3", "4/3", "-1/3", "0/0", "a/b", "1/2/3", "1.0/2"] {
            let message = text.parse::<Shard>().expect_err(text).to_string();
            assert!(message.starts_with(&format!("--shard is `{text}`, must be I/N")), "{message}");
        }
    }
}

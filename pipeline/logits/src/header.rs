//! `cache.json`: what a cache is of, and how it was made.

use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use limbeck_config::{LogitsCodec, Precision};
use serde::{Deserialize, Serialize};

use crate::error::LogitsError;
use crate::files::write_atomically;

/// Version of the format that this build writes and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Name of the header in a cache.
pub const HEADER_FILE: &str = "cache.json";

/// Bytes of a part before compression, about. Less is lost when a process is killed, more makes fewer files.
const PART_BYTES: u64 = 64 << 20;
/// Tokens of a part, about, where a token takes tens of bytes.
const PART_TOKENS: u64 = 1 << 15;
/// Bytes of a row with the codec `full`: a page holds one, and its size is a signed 32-bit number.
const MOST_ROW_BYTES: u64 = 1 << 30;

/// What a teacher's logits depend on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Hash of the tokenised segments in their order.
    pub data: String,
    /// Hash of the map from tokens to ids.
    pub tokenizer: String,
    /// Hash of the teacher's weights.
    pub teacher: String,
    /// Pairs of a segment at most: where documents are cut.
    pub sequence_length: u64,
    /// Ids that the logits are over.
    pub vocab_size: u64,
}

/// How a capture goes through the data.
///
/// The rows are those that the data packs its segments into, in their fixed order: what the training's batches are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// Packed rows in all.
    pub rows: u64,
    /// Segments in them.
    pub segments: u64,
    /// Rows of a part, the last one possibly with fewer.
    pub rows_per_part: u64,
    /// Rows of one forward pass of the teacher, the last of a part possibly with fewer.
    pub rows_per_batch: u64,
}

/// `cache.json`. It holds no time and no machine: every shard writes the same bytes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CacheHeader {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What the logits depend on.
    pub identity: Identity,
    /// What was kept of them.
    pub codec: LogitsCodec,
    /// What they were divided by; 1 with the codec `full`, which keeps them as they are.
    pub temperature: f64,
    /// What the draws are a function of; 0 with codecs that draw nothing.
    pub seed: u64,
    /// Arithmetic of the teacher's matrix products.
    pub precision: Precision,
    /// How the capture goes.
    pub extent: Extent,
}

impl CacheHeader {
    /// The header of a capture of `rows` rows with `segments` segments, by `rows_per_batch` at a time.
    ///
    /// # Errors
    /// With the codec `full`, rows that take over 1 GiB.
    pub fn new(
        identity: Identity,
        codec: LogitsCodec,
        temperature: f64,
        seed: u64,
        (rows, segments, rows_per_batch): (u64, u64, u64),
    ) -> Result<CacheHeader, LogitsError> {
        let rows_per_batch = rows_per_batch.max(1);
        let length = identity.sequence_length.max(1);
        let (most_rows, temperature, seed) = match codec {
            LogitsCodec::RandomSampling { .. } => (PART_TOKENS / length, temperature, seed),
            LogitsCodec::TopK { .. } => (PART_TOKENS / length, temperature, 0),
            LogitsCodec::Full {} => {
                let bytes = length.saturating_mul(identity.vocab_size).saturating_mul(4).max(1);
                if bytes > MOST_ROW_BYTES {
                    return Err(LogitsError::TooWide { bytes, most: MOST_ROW_BYTES });
                }
                (PART_BYTES / bytes, 1.0, 0)
            }
        };
        // Whole batches: another split of the rows could round otherwise.
        let rows_per_part = (most_rows / rows_per_batch).max(1) * rows_per_batch;
        let extent = Extent { rows, segments, rows_per_part, rows_per_batch };
        let (format_version, precision) = (FORMAT_VERSION, Precision::Fp32);
        Ok(CacheHeader { format_version, identity, codec, temperature, seed, precision, extent })
    }

    /// The same of a teacher whose matrix products are of `precision`; [`CacheHeader::new`] says 32-bit floats.
    pub fn with_precision(mut self, precision: Precision) -> CacheHeader {
        self.precision = precision;
        self
    }

    /// Parts of the whole cache.
    pub fn parts(&self) -> u32 {
        u32::try_from(self.extent.rows.div_ceil(self.extent.rows_per_part.max(1))).unwrap_or(u32::MAX)
    }

    /// The rows of a part.
    pub fn part_rows(&self, part: u32) -> Range<u64> {
        let Extent { rows, rows_per_part, .. } = self.extent;
        let first = u64::from(part).saturating_mul(rows_per_part);
        first.min(rows)..first.saturating_add(rows_per_part).min(rows)
    }

    /// Rows of the table for each segment.
    pub(crate) fn sets(&self) -> u32 {
        match self.codec {
            LogitsCodec::RandomSampling { sets, .. } => sets.max(1),
            LogitsCodec::TopK { .. } | LogitsCodec::Full {} => 1,
        }
    }

    /// The header in `directory`, and its hash.
    pub(crate) fn read(directory: &Path) -> Result<(CacheHeader, blake3::Hash), LogitsError> {
        let path = directory.join(HEADER_FILE);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => LogitsError::NoCache { path: directory.to_owned() },
            _ => LogitsError::io("read", &path)(source),
        })?;
        let bad = |error: serde_json::Error| LogitsError::BadHeader { path: path.clone(), reason: error.to_string() };
        // Before the rest is parsed: another version has other keys.
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let Version { format_version: found } = serde_json::from_slice(&bytes).map_err(bad)?;
        if found != u64::from(FORMAT_VERSION) {
            return Err(LogitsError::FormatVersion { path, found, supported: FORMAT_VERSION });
        }
        let header: CacheHeader = serde_json::from_slice(&bytes).map_err(bad)?;
        let Extent { rows, rows_per_part, rows_per_batch, .. } = header.extent;
        if rows == 0 || rows_per_part == 0 || rows_per_batch == 0 || header.identity.vocab_size == 0 {
            let reason = "rows, rows_per_part, rows_per_batch and vocab_size must be at least `1`".to_owned();
            return Err(LogitsError::BadHeader { path, reason });
        }
        Ok((header, blake3::hash(&bytes)))
    }

    /// Writes it into `directory`; returns its hash.
    pub(crate) fn write(&self, directory: &Path) -> Result<blake3::Hash, LogitsError> {
        let path = directory.join(HEADER_FILE);
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| LogitsError::io("write", &path)(std::io::Error::other(error)))?;
        bytes.push(b'\n');
        write_atomically(&path, HEADER_FILE, &bytes)?;
        Ok(blake3::hash(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(codec: LogitsCodec, rows: u64, rows_per_batch: u64) -> Result<CacheHeader, LogitsError> {
        let hash = |text: &str| text.to_owned();
        let identity = Identity {
            data: hash("d"),
            tokenizer: hash("t"),
            teacher: hash("w"),
            sequence_length: 200,
            vocab_size: 1000,
        };
        CacheHeader::new(identity, codec, 2.0, 7, (rows, 3 * rows, rows_per_batch))
    }

    #[test]
    fn parts_hold_whole_batches_and_every_row_once() {
        // 32,768 / 200 = 163 rows, of which 156 are whole batches of 12.
        let header = header(LogitsCodec::TopK { k: 9 }, 400, 12).expect("a header");
        assert_eq!((header.extent.rows_per_part, header.parts()), (156, 3));
        assert_eq!(
            (0..4).map(|part| header.part_rows(part)).collect::<Vec<_>>(),
            [0..156, 156..312, 312..400, 400..400]
        );
        assert_eq!((header.temperature, header.seed), (2.0, 0));
    }

    #[test]
    fn full_rows_make_smaller_parts_and_keep_no_temperature() {
        // 800,000 bytes a row, 83 in 64 MiB.
        let full = header(LogitsCodec::Full {}, 400, 8).expect("a header");
        assert_eq!((full.extent.rows_per_part, full.temperature, full.seed), (80, 1.0, 0));
        // A batch that is more than a part makes the part larger.
        assert_eq!(header(LogitsCodec::Full {}, 400, 100).expect("a header").extent.rows_per_part, 100);
    }

    #[test]
    fn rows_that_no_page_holds_are_refused() {
        let mut wide = header(LogitsCodec::TopK { k: 9 }, 4, 1).expect("a header").identity;
        wide.vocab_size = 2_000_000;
        let message = CacheHeader::new(wide, LogitsCodec::Full {}, 1.0, 0, (4, 9, 1)).expect_err("refused").to_string();
        assert!(message.starts_with("the codec `full` takes `1600000000` bytes"), "{message}");
    }
}

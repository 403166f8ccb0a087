//! A teacher's logits on disk: captured once, found again by the segment that they are of.
//!
//! ```text
//!            SegmentLogits ──▶ codec ──▶ rows ──▶ part ── BLAKE3 ──▶ parts/00003-<hash>.parquet
//! Capture    of one segment    what is   of the   a fixed range      temporary name, fsync, rename
//!                              kept      table    of packed rows
//!
//! Cache      cache.json ──▶ identity ──▶ every part there and whole ──▶ index ──▶ CachedTargets
//!            refused by name                                            by SegmentKey
//! ```
//!
//! * [`Capture`] writes a cache in any order, by any number of processes ([`Shard`]); killed at any time and begun again,
//!   the files come out the same.
//! * [`Cache`] opens one that is complete, of the data, tokenizer and teacher that are asked for ([`Expected`]), and gives
//!   the distributions of any segments. What does not fit is refused by name; there is no fall-back.
//! * [`limbeck_config::LogitsCodec`] says what is kept. The draws of random sampling are a function of the seed, the
//!   segment, the position and the set: batches, order and packing have no part in them.
//!
//! ```
//! use limbeck_config::LogitsCodec;
//! use limbeck_logits::{Cache, CachedTargets, Capture, CacheHeader, Expected, Identity};
//! use limbeck_logits::{SegmentKey, SegmentLogits, SegmentRequest, Shard};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let hash = |text: &str| text.to_owned();
//! let identity = Identity {
//!     data: hash("data"),
//!     tokenizer: hash("tokenizer"),
//!     teacher: hash("weights"),
//!     sequence_length: 8,
//!     vocab_size: 5,
//! };
//! let header = CacheHeader::new(identity, LogitsCodec::TopK { k: 2 }, 1.0, 0, (1, 1, 1))?;
//! let mut capture = Capture::open(directory, header, Shard::default())?;
//! let key = SegmentKey { entry: 0, document: 7, segment: 0 };
//! for part in capture.pending() {
//!     let mut writer = capture.part(part);
//!     let logits = [0.0, 4f32.ln(), 0.0, 2f32.ln(), 0.0];
//!     writer.push(&SegmentLogits { key, length: 3, positions: &[1], logits: &logits })?;
//!     capture.finish(writer)?;
//! }
//!
//! let (data, tokenizer, teacher) = (hash("data"), hash("tokenizer"), Some(hash("weights")));
//! let cache = Cache::open(directory, &Expected { data, tokenizer, teacher, sequence_length: 8 })?;
//! let targets = cache.read(&[SegmentRequest { key, epoch: 0, targets: &[false, true, false] }])?;
//! let CachedTargets::Sparse(targets) = targets else { panic!("top_k is sparse") };
//! assert_eq!(targets.ids, [1, 3]);
//! assert!((targets.log_probabilities[0].exp() - 4.0 / 9.0).abs() < 1e-4);
//! # Ok(())
//! # }
//! ```

mod cache;
mod capture;
mod check;
mod codec;
mod distribution;
mod encode;
mod error;
mod files;
mod header;
mod kept;
mod part;
mod parts;
mod segment;
mod shard;
mod table;
mod targets;
#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use capture::{Capture, PartReport, PartWriter};
pub use check::Expected;
pub use encode::Fidelity;
pub use error::LogitsError;
pub use header::{CacheHeader, Extent, FORMAT_VERSION, HEADER_FILE, Identity};
pub use segment::{SegmentKey, SegmentLogits, SegmentRequest};
pub use shard::Shard;
pub use targets::{CachedTargets, DenseTargets, SparseTargets};

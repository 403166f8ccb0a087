//! What can be wrong with a cache of logits.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::segment::SegmentKey;
use crate::shard::Shard;

/// Why a cache was refused, or could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogitsError {
    /// The file system says no.
    #[error("cannot {action} `{}`: {source}; hint: {}", path.display(), io_hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A directory without `cache.json`.
    #[error("`{}` holds no cache of logits: it has no cache.json; hint: write it with `distill --capture`", path.display())]
    NoCache {
        /// The directory.
        path: PathBuf,
    },
    /// A `cache.json` that is none.
    #[error("`{}` is not readable: {reason}; hint: restore it, or capture into another directory", path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A cache of another version.
    #[error(
        "`{}` has format_version `{found}`, must be `{supported}`; hint: capture again with this build", path.display()
    )]
    FormatVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        supported: u32,
    },
    /// A cache made from something else.
    #[error("logits cache `{}` has {what} `{found}`, must be `{expected}`: it is of {of}; hint: {hint}", path.display())]
    Mismatch {
        /// The cache.
        path: PathBuf,
        /// The key of `cache.json`.
        what: &'static str,
        /// What stands there.
        found: String,
        /// What is asked for.
        expected: String,
        /// What that means, such as `another teacher`.
        of: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A loss that the codec cannot give.
    #[error("logits cache `{}` was captured with {codec}, {reason}; hint: {hint}", path.display())]
    Pairing {
        /// The cache.
        path: PathBuf,
        /// The codec, as its config calls it.
        codec: &'static str,
        /// Why it does not fit.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// Parts that are not there.
    #[error(
        "logits cache `{}` lacks {missing} of its `{parts}` parts; hint: go on with `distill --capture`, with the \
         --shard that each is of (its number modulo the shards)",
        path.display()
    )]
    MissingParts {
        /// The cache.
        path: PathBuf,
        /// Their numbers, the first ones.
        missing: String,
        /// Parts of the whole.
        parts: u32,
    },
    /// Two files for one part.
    #[error("logits cache `{}` holds part `{part}` twice; hint: remove one of them", path.display())]
    PartTwice {
        /// The cache.
        path: PathBuf,
        /// The part.
        part: u32,
    },
    /// A part whose content is not what its name says.
    #[error(
        "`{}` is damaged: its content has BLAKE3 `{found}`, not that of its name; \
         hint: run `distill --capture` again, which writes this part anew",
        path.display()
    )]
    DamagedPart {
        /// The file.
        path: PathBuf,
        /// The hash of its content.
        found: String,
    },
    /// A part whose hash is right and whose cache is another.
    #[error("`{}` belongs to another cache than the cache.json above it; hint: remove it and capture again", path.display())]
    ForeignPart {
        /// The file.
        path: PathBuf,
    },
    /// A part that does not hold what it should.
    #[error("`{}` is not a part of a cache: {reason}; hint: remove it and capture again", path.display())]
    BadPart {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard that another process captures.
    #[error(
        "shard `{shard}` of `{}` is being captured by another process; hint: give each process another --shard",
        path.display()
    )]
    ShardBusy {
        /// The cache.
        path: PathBuf,
        /// The shard.
        shard: Shard,
    },
    /// A segment that was not captured.
    #[error("the logits cache has no {key}; hint: it is of other data, capture it again")]
    NoSegment {
        /// The segment.
        key: SegmentKey,
    },
    /// A segment whose targets are others.
    #[error("the logits cache and the data have other targets in {key}; hint: it is of other data, capture it again")]
    OtherTargets {
        /// The segment.
        key: SegmentKey,
    },
    /// A teacher that computes nonsense.
    #[error("the teacher's logits are not finite in {key}, at position `{position}`; hint: it is broken or overflows")]
    NotFinite {
        /// The segment.
        key: SegmentKey,
        /// The position in it.
        position: u32,
    },
    /// Logits of another shape than was announced.
    #[error("{key} comes with `{found}` logits, must be `{expected}`: a row of the vocabulary for every target")]
    LogitsShape {
        /// The segment.
        key: SegmentKey,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Rows that no file could hold.
    #[error(
        "the codec `full` takes `{bytes}` bytes for a row of data.sequence_length tokens, must be at most `{most}`; \
         hint: use random_sampling, or shorter rows"
    )]
    TooWide {
        /// Bytes.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// A shard that is none.
    #[error(
        "--shard is `{text}`, must be I/N with I from 0 to N - 1; hint: an array job of 16 gives `0/16` to `15/16`"
    )]
    Shard {
        /// As given.
        text: String,
    },
}

impl LogitsError {
    /// Wraps the system's answer; for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LogitsError {
        let path = path.to_path_buf();
        move |source| LogitsError::Io { action, path, source }
    }

    /// Wraps what a parquet library says of a part; for `map_err`.
    pub(crate) fn bad_part<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> LogitsError {
        let path = path.to_path_buf();
        move |reason| LogitsError::BadPart { path, reason: reason.to_string() }
    }
}

fn io_hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space, or capture to another device",
        ErrorKind::PermissionDenied => "check the permissions",
        _ => "check that the path is right and the device is there",
    }
}

//! A made-up teacher over made-up segments, and what becomes of its logits.

mod bytes;
mod killed;
mod probes;
mod refusals;
mod round_trip;
mod shards;
mod unbiased;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use limbeck_config::LogitsCodec;
use limbeck_random::{Stream, mix};

use crate::{
    Cache, CacheHeader, CachedTargets, Capture, Expected, Identity, LogitsError, PartReport, SegmentKey, SegmentLogits,
    SegmentRequest, Shard,
};

type Outcome = Result<(), Box<dyn Error>>;

const VOCAB_SIZE: usize = 97;
const ROWS: u64 = 23;
const RANDOM_SAMPLING: LogitsCodec = LogitsCodec::RandomSampling { draws: 50, sets: 3 };
const TOP_K: LogitsCodec = LogitsCodec::TopK { k: 12 };
const FULL: LogitsCodec = LogitsCodec::Full {};

/// A segment of the made-up data.
#[derive(Clone, Debug, PartialEq)]
struct Segment {
    key: SegmentKey,
    targets: Vec<bool>,
}

impl Segment {
    fn positions(&self) -> Vec<u32> {
        (0u32..).zip(&self.targets).filter(|(_, counts)| **counts).map(|(position, _)| position).collect()
    }

    /// What the teacher says: a function of the segment and the position.
    fn logits(&self) -> Vec<f32> {
        self.positions().iter().flat_map(|position| logits(self.key, *position)).collect()
    }

    fn request(&self, epoch: u64) -> SegmentRequest<'_> {
        SegmentRequest { key: self.key, epoch, targets: &self.targets }
    }
}

fn logits(key: SegmentKey, position: u32) -> Vec<f32> {
    let seed = mix(&[key.entry.into(), key.document, key.segment.into(), position.into(), 99]);
    let mut stream = Stream::new(seed);
    (0..VOCAB_SIZE).map(|_| (stream.uniform() * 9.0 - 6.0) as f32).collect()
}

/// The segments of a packed row: from one to three, some with masked targets, in no order of their names.
fn row(row: u64) -> Vec<Segment> {
    let segment = |place: u64| {
        let bits = mix(&[row, place]);
        let key = SegmentKey {
            entry: (row / 15) as u32,
            // One to one: 101 is a prime.
            document: (row * 3 + place) * 37 % 101,
            segment: (bits % 3) as u32,
        };
        let length = 1 + (bits >> 8) % 11;
        // At least the last is a target, or the segment would not be in the data.
        let targets = (1..=length).map(|pair| pair == length || !(bits >> (16 + pair)).is_multiple_of(3)).collect();
        Segment { key, targets }
    };
    (0..1 + row % 3).map(segment).collect()
}

fn segments() -> Vec<Segment> {
    (0..ROWS).flat_map(row).collect()
}

fn identity() -> Identity {
    Identity {
        data: "d".repeat(64),
        tokenizer: "a".repeat(64),
        teacher: "b".repeat(64),
        sequence_length: 12,
        vocab_size: VOCAB_SIZE as u64,
    }
}

/// Eight parts of three rows, the last one of two.
fn header(codec: LogitsCodec) -> Result<CacheHeader, LogitsError> {
    let mut header = CacheHeader::new(identity(), codec, 1.0, 5, (ROWS, segments().len() as u64, 3))?;
    header.extent.rows_per_part = 3;
    Ok(header)
}

fn expected() -> Expected {
    let Identity { data, tokenizer, teacher, sequence_length, .. } = identity();
    Expected { data, tokenizer, teacher: Some(teacher), sequence_length }
}

/// Captures one part.
fn capture_part(capture: &mut Capture, part: u32) -> Result<PartReport, LogitsError> {
    let mut writer = capture.part(part);
    for segment in capture.header().part_rows(part).flat_map(row) {
        let (positions, logits) = (segment.positions(), segment.logits());
        let length = segment.targets.len() as u32;
        writer.push(&SegmentLogits { key: segment.key, length, positions: &positions, logits: &logits })?;
    }
    capture.finish(writer)
}

fn capture_with(directory: &Path, header: CacheHeader, shard: Shard) -> Result<(), LogitsError> {
    let mut capture = Capture::open(directory, header, shard)?;
    for part in capture.pending() {
        capture_part(&mut capture, part)?;
    }
    Ok(())
}

fn capture(directory: &Path, codec: LogitsCodec) -> Result<(), LogitsError> {
    capture_with(directory, header(codec)?, Shard::default())
}

fn open(directory: &Path) -> Result<Cache, LogitsError> {
    Cache::open(directory, &expected())
}

/// The directories' files by their names, with the hash of their content.
fn files(directory: &Path) -> Result<BTreeMap<PathBuf, blake3::Hash>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for place in [directory.to_owned(), directory.join("parts")] {
        for entry in fs::read_dir(place)? {
            let path = entry?.path();
            if path.is_file() {
                found.insert(path.strip_prefix(directory)?.to_owned(), blake3::hash(&fs::read(&path)?));
            }
        }
    }
    Ok(found)
}

fn parts(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    Ok(files(directory)?
        .into_keys()
        .filter(|name| name.starts_with("parts"))
        .map(|name| directory.join(name))
        .collect())
}

fn sparse(targets: CachedTargets) -> Result<crate::SparseTargets, Box<dyn Error>> {
    match targets {
        CachedTargets::Sparse(sparse) => Ok(sparse),
        CachedTargets::Dense(_) => Err("dense targets".into()),
    }
}

#[test]
fn the_made_up_segments_differ() {
    let mut keys: Vec<SegmentKey> = segments().iter().map(|segment| segment.key).collect();
    let count = keys.len();
    assert!(keys.windows(2).any(|pair| pair[0] > pair[1]), "their order is not that of their names");
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), count), (45, 45));
    assert!(segments().iter().any(|segment| segment.targets.contains(&false)));
}

//! Writing a cache: part after part, in any order, by any number of processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use limbeck_config::LogitsCodec;

use crate::check::check_same;
use crate::encode::{Fidelity, Row, encode};
use crate::error::LogitsError;
use crate::files::{Lock, create_directory, remove, write_atomically};
use crate::header::{CacheHeader, HEADER_FILE};
use crate::part::Part;
use crate::parts::{PARTS_DIRECTORY, PartFile, list, stem, unfinished};
use crate::segment::SegmentLogits;
use crate::shard::Shard;
use crate::table;

/// A cache that is being written.
///
/// A part has its name once it is whole and on the device, so a process that is killed loses the part that it was at, and
/// the next one writes the same bytes: parts that verify are kept, the others are written anew.
#[derive(Debug)]
pub struct Capture {
    directory: PathBuf,
    header: CacheHeader,
    hash: blake3::Hash,
    shard: Shard,
    pending: BTreeSet<u32>,
    damaged: Vec<PathBuf>,
    bytes: u64,
    _lock: Lock,
}

/// The rows of one part, collected.
#[derive(Debug)]
pub struct PartWriter {
    part: u32,
    header: CacheHeader,
    rows: Vec<Row>,
    report: PartReport,
}

/// What a part came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PartReport {
    /// Segments.
    pub segments: u64,
    /// Targets in them.
    pub targets: u64,
    /// Ids that are kept of them, in one set.
    pub ids: u64,
    /// Size of the file.
    pub bytes: u64,
    /// How near it is to the teacher.
    pub fidelity: Fidelity,
}

impl Capture {
    /// Begins the cache in `directory`, or goes on with it, for one shard.
    ///
    /// # Errors
    /// A cache that was begun with another header, a shard that another process has, what the file system says.
    pub fn open(directory: &Path, header: CacheHeader, shard: Shard) -> Result<Capture, LogitsError> {
        create_directory(&directory.join(PARTS_DIRECTORY))?;
        let lock = directory.join(format!(".shard-{}.lock", shard.to_string().replace('/', "-of-")));
        let busy = || LogitsError::ShardBusy { path: directory.to_owned(), shard };
        let lock = Lock::take(lock)?.ok_or_else(busy)?;
        let hash = match CacheHeader::read(directory) {
            Ok((found, hash)) => {
                check_same(directory, &found, &header)?;
                hash
            }
            Err(LogitsError::NoCache { .. }) => header.write(directory)?,
            Err(error) => return Err(error),
        };
        for (_, path) in unfinished(directory)?.into_iter().filter(|(part, _)| shard.holds(*part)) {
            remove(&path)?;
        }
        let pending = (0..header.parts()).filter(|part| shard.holds(*part)).collect();
        let (directory, damaged) = (directory.to_owned(), Vec::new());
        let mut capture = Capture { directory, header, hash, shard, pending, damaged, bytes: 0, _lock: lock };
        capture.keep_what_verifies()?;
        Ok(capture)
    }

    fn keep_what_verifies(&mut self) -> Result<(), LogitsError> {
        for file in list(&self.directory)?.into_iter().filter(|file| self.shard.holds(file.part)) {
            match file.verify() {
                Ok(()) => {
                    Part::open(&file, &self.header, self.hash)?;
                    self.bytes += file.bytes()?;
                    self.pending.remove(&file.part);
                }
                Err(LogitsError::DamagedPart { path, .. }) => {
                    remove(&path)?;
                    self.damaged.push(path);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What is captured.
    pub fn header(&self) -> &CacheHeader {
        &self.header
    }

    /// Parts of this shard that are not there yet, in ascending order.
    pub fn pending(&self) -> Vec<u32> {
        self.pending.iter().copied().collect()
    }

    /// Parts that were there but damaged, and were removed.
    pub fn damaged(&self) -> &[PathBuf] {
        &self.damaged
    }

    /// Size of this shard's parts, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Begins a part; its segments are pushed in the order of the data.
    pub fn part(&self, part: u32) -> PartWriter {
        PartWriter { part, header: self.header.clone(), rows: Vec::new(), report: PartReport::default() }
    }

    /// Writes a part whose segments are all there.
    ///
    /// # Errors
    /// What the file system says; the cache is then as it was.
    pub fn finish(&mut self, part: PartWriter) -> Result<PartReport, LogitsError> {
        let PartWriter { part, mut rows, mut report, .. } = part;
        // Stable: within a set they stay in the order of the data.
        rows.sort_by_key(|row| row.set);
        let header = self.directory.join(HEADER_FILE);
        let bytes = table::write(&rows, self.header.codec, self.hash).map_err(LogitsError::bad_part(&header))?;
        let file = PartFile::of(&self.directory, part, &bytes);
        write_atomically(&file.path, &stem(part), &bytes)?;
        self.pending.remove(&part);
        report.bytes = bytes.len() as u64;
        self.bytes += report.bytes;
        Ok(report)
    }
}

impl PartWriter {
    /// Adds a segment. Its rows depend on the header and the segment alone, not on what comes before or beside it.
    ///
    /// # Errors
    /// Logits that are not finite, or of another shape.
    pub fn push(&mut self, segment: &SegmentLogits) -> Result<(), LogitsError> {
        let (rows, fidelity) = encode(&self.header, segment)?;
        self.report.segments += 1;
        self.report.targets += segment.positions.len() as u64;
        self.report.ids += match self.header.codec {
            LogitsCodec::Full {} => segment.logits.len() as u64,
            LogitsCodec::RandomSampling { .. } | LogitsCodec::TopK { .. } => {
                rows.first().map_or(0, |row| row.places.len() as u64)
            }
        };
        self.rows.extend(rows);
        self.report.fidelity += fidelity;
        Ok(())
    }
}

//! The files of a cache: one a part, named by its number and the hash of its content.
//!
//! The name is the proof: a part needs no entry in a list that several processes would have to write, and one rename
//! publishes content and hash together.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;

use crate::error::LogitsError;
use crate::files::unfinished_stem;

/// Directory of the parts in a cache: nothing but parquet files, so that any tool opens it whole.
pub(crate) const PARTS_DIRECTORY: &str = "parts";

/// Of all messages, the numbers that are listed at most.
const NAMED: usize = 8;

/// A part that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartFile {
    pub(crate) part: u32,
    pub(crate) path: PathBuf,
    hash: blake3::Hash,
}

impl PartFile {
    /// The file of a part with this content, in the cache `directory`.
    pub(crate) fn of(directory: &Path, part: u32, content: &[u8]) -> PartFile {
        let hash = blake3::hash(content);
        let path = directory.join(PARTS_DIRECTORY).join(format!("{}-{}.parquet", stem(part), hash.to_hex()));
        PartFile { part, path, hash }
    }

    /// What the name says; `None` for names that are no part's.
    fn parse(path: PathBuf) -> Option<PartFile> {
        let (part, hash) = path.file_name()?.to_str()?.strip_suffix(".parquet")?.split_once('-')?;
        let (number, hash) = (part.parse().ok()?, blake3::Hash::from_hex(hash).ok()?);
        (stem(number) == part).then_some(PartFile { part: number, path, hash })
    }

    pub(crate) fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// The content, mapped into memory.
    pub(crate) fn map(&self) -> Result<Mmap, LogitsError> {
        let file = File::open(&self.path).map_err(LogitsError::io("open", &self.path))?;
        // SAFETY: a part has its name only once it is complete, and is never written again. Whoever cuts it short from
        // outside while we run makes reads fail with SIGBUS, as for any mapped file.
        unsafe { Mmap::map(&file) }.map_err(LogitsError::io("map", &self.path))
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> Result<u64, LogitsError> {
        let metadata = fs::metadata(&self.path).map_err(LogitsError::io("read", &self.path))?;
        Ok(metadata.len())
    }

    /// Refuses a content that is not what the name says.
    pub(crate) fn verify(&self) -> Result<(), LogitsError> {
        let file = File::open(&self.path).map_err(LogitsError::io("open", &self.path))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(LogitsError::io("read", &self.path))?;
        let found = hasher.finalize();
        if found == self.hash {
            return Ok(());
        }
        Err(LogitsError::DamagedPart { path: self.path.clone(), found: found.to_hex().to_string() })
    }
}

/// What a part's names begin with.
pub(crate) fn stem(part: u32) -> String {
    format!("{part:05}")
}

/// The parts that are there, by their numbers.
///
/// # Errors
/// Two files for one part.
pub(crate) fn list(directory: &Path) -> Result<Vec<PartFile>, LogitsError> {
    let mut files: Vec<PartFile> = paths(directory)?.into_iter().filter_map(PartFile::parse).collect();
    files.sort_by_key(|file| file.part);
    match files.windows(2).find(|pair| pair[0].part == pair[1].part) {
        Some(pair) => Err(LogitsError::PartTwice { path: directory.to_owned(), part: pair[0].part }),
        None => Ok(files),
    }
}

/// Files that a process has not finished, with the number of their part.
pub(crate) fn unfinished(directory: &Path) -> Result<Vec<(u32, PathBuf)>, LogitsError> {
    let part = |path: &PathBuf| unfinished_stem(path.file_name()?.to_str()?)?.parse().ok();
    Ok(paths(directory)?.into_iter().filter_map(|path| Some((part(&path)?, path))).collect())
}

fn paths(directory: &Path) -> Result<Vec<PathBuf>, LogitsError> {
    let directory = directory.join(PARTS_DIRECTORY);
    let entries = fs::read_dir(&directory).map_err(LogitsError::io("read", &directory))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    paths.map_err(LogitsError::io("read", &directory))
}

/// Refuses files that are not all the `parts` parts, and content that is not what its name says.
pub(crate) fn check_complete(directory: &Path, files: &[PartFile], parts: u32) -> Result<(), LogitsError> {
    if let Some(file) = files.iter().find(|file| file.part >= parts) {
        return Err(LogitsError::ForeignPart { path: file.path.clone() });
    }
    let mut there = files.iter().map(|file| file.part).peekable();
    let missing: Vec<u32> = (0..parts).filter(|part| there.next_if_eq(part).is_none()).collect();
    if !missing.is_empty() {
        let named = missing.iter().take(NAMED).map(|part| format!("`{part}`")).collect::<Vec<_>>().join(", ");
        let more = missing.len().saturating_sub(NAMED);
        let missing = if more > 0 { format!("{named} and {more} more") } else { named };
        return Err(LogitsError::MissingParts { path: directory.to_owned(), missing, parts });
    }
    files.par_iter().map(PartFile::verify).collect()
}

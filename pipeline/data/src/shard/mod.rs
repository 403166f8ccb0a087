//! Token shards: the documents of one file, tokenised once.
//!
//! A shard's name is the BLAKE3 of everything that decides its content, so it is never out of date: another byte of
//! data, another tokenizer or another template is another shard.

mod build;
mod counts;
mod format;

use std::fs::File;
use std::path::{Path, PathBuf};

use limbeck_config::{DataEntry, DataKind};

use crate::error::DataError;
use crate::source::extension;
use crate::tokenizer::Tokenizer;

pub use self::counts::token_counts;
pub(crate) use self::format::Shard;

/// How far the tokenising of one file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The data file.
    pub file: &'a Path,
    /// What is being done.
    pub state: ProgressState,
    /// Documents or conversations so far.
    pub documents: u64,
    /// Tokens so far.
    pub tokens: u64,
}

/// What is being done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// It is read and tokenised.
    Tokenizing,
    /// Its shard was written.
    Written,
    /// Its shard was there already.
    Reused,
}

/// The key of a file's shard: BLAKE3 of the file's content and of all that decides how it becomes tokens.
fn key(file: &Path, entry: &DataEntry, tokenizer: &Tokenizer) -> Result<blake3::Hash, DataError> {
    let mut content = blake3::Hasher::new();
    let reader = File::open(file).map_err(DataError::io("open", file))?;
    content.update_reader(reader).map_err(DataError::io("read", file))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"limbeck shard");
    hasher.update(&format::VERSION.to_le_bytes());
    hasher.update(content.finalize().as_bytes());
    hasher.update(tokenizer.encoding_hash()?.as_bytes());
    let template = match entry.kind {
        DataKind::Documents => None,
        DataKind::Chats => tokenizer.chat_template(),
    };
    let kind = match entry.kind {
        DataKind::Documents => "documents",
        DataKind::Chats => "chats",
    };
    let columns = [&entry.column, &entry.prompt_column, &entry.completion_column].map(|column| column.as_deref());
    for part in [Some(kind), Some(extension(file).as_str()), template].into_iter().chain(columns) {
        let part = part.map_or("-".to_owned(), |part| format!("{} {part}", part.len()));
        hasher.update(part.as_bytes());
    }
    Ok(hasher.finalize())
}

/// The shard of `file` in `cache`, made where it is missing or damaged.
///
/// # Errors
/// What is wrong with the file, or the cache's file system.
pub(crate) fn open(
    file: &Path,
    entry: &DataEntry,
    tokenizer: &Tokenizer,
    cache: &Path,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Shard, DataError> {
    let key = key(file, entry, tokenizer)?;
    let path: PathBuf = cache.join(format!("{}.tokens", key.to_hex()));
    let report = |shard: &Shard, state| {
        progress(Progress { file, state, documents: shard.documents(), tokens: shard.tokens() });
    };
    if let Some(shard) = Shard::open(&path, key)? {
        report(&shard, ProgressState::Reused);
        return Ok(shard);
    }
    build::build(file, entry, tokenizer, &path, key, progress)?;
    let shard = Shard::open(&path, key)?.ok_or_else(|| {
        let source = std::io::Error::other("the shard that was just written is damaged");
        DataError::io("read", &path)(source)
    })?;
    report(&shard, ProgressState::Written);
    Ok(shard)
}

#[cfg(test)]
mod tests;

//! From a data file to its shard.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use limbeck_config::{DataEntry, DataKind};
use rayon::prelude::*;

use super::format::{ShardWriter, token_width};
use super::{Progress, ProgressState};
use crate::error::DataError;
use crate::message::{Message, Role};
use crate::source::{Record, Records};
use crate::tokenizer::Tokenizer;

/// Text that is tokenised in parallel at once. The order is the file's, whatever the number of threads.
const CHUNK_BYTES: usize = 1 << 22;

pub(super) struct Encoded {
    pub(super) ids: Vec<u32>,
    /// Empty where every token is a target.
    targets: Vec<bool>,
    bytes: u64,
}

/// Writes the shard of `file` under a temporary name and renames it to `path` once it is on the device.
pub(super) fn build(
    file: &Path,
    entry: &DataEntry,
    tokenizer: &Tokenizer,
    path: &Path,
    key: blake3::Hash,
    progress: &dyn Fn(Progress<'_>),
) -> Result<(), DataError> {
    let mut records = Records::open(file, entry)?;
    let temporary = Temporary::create(path)?;
    let out = BufWriter::with_capacity(1 << 20, &temporary.file);
    let mut writer = ShardWriter::new(out, token_width(tokenizer.vocab_size()));
    loop {
        let chunk = next_chunk(&mut records)?;
        if chunk.is_empty() {
            break;
        }
        let encoded: Vec<Encoded> =
            chunk.into_par_iter().map(|record| encode(record, tokenizer)).collect::<Result<_, _>>()?;
        for document in &encoded {
            writer.push(&document.ids, &document.targets, document.bytes).map_err(temporary.failed("write"))?;
        }
        let (documents, tokens) = (records.report().documents, writer.tokens());
        progress(Progress { file, state: ProgressState::Tokenizing, documents, tokens });
    }
    let chats = entry.kind == DataKind::Chats;
    let mut out = writer.finish(key, chats, records.report()).map_err(temporary.failed("write"))?;
    out.flush().map_err(temporary.failed("write"))?;
    drop(out);
    temporary.keep(path)
}

pub(super) fn next_chunk(records: &mut Records) -> Result<Vec<Record>, DataError> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while bytes < CHUNK_BYTES
        && let Some(record) = records.next()
    {
        let record = record?;
        bytes += match &record {
            Record::Document(text) => text.len(),
            Record::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
        };
        chunk.push(record);
    }
    Ok(chunk)
}

/// A document gets a begin token, so that its first token is a target too, and an end token to predict.
pub(super) fn encode(record: Record, tokenizer: &Tokenizer) -> Result<Encoded, DataError> {
    match record {
        Record::Document(text) => {
            let mut ids = vec![tokenizer.begin_of_text()];
            ids.extend(tokenizer.encode(&text)?);
            ids.push(tokenizer.end_of_text());
            Ok(Encoded { ids, targets: Vec::new(), bytes: text.len() as u64 })
        }
        Record::Chat(messages) => {
            let (ids, targets) = tokenizer.encode_chat(&messages)?;
            let spoken = |message: &&Message| message.role == Role::Assistant;
            let bytes = messages.iter().filter(spoken).map(|message| message.content.len() as u64).sum();
            Ok(Encoded { ids, targets, bytes })
        }
    }
}

/// A file that is removed unless it is kept.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    /// Beside `path`, under a name that no other process or thread takes.
    fn create(path: &Path) -> Result<Temporary, DataError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let directory = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(directory).map_err(DataError::io("create", directory))?;
        let unique = format!("{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = path.with_extension(unique);
        let file = File::create(&path).map_err(DataError::io("create", &path))?;
        Ok(Temporary { file, path })
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> DataError {
        DataError::io(action, &self.path)
    }

    fn keep(self, path: &Path) -> Result<(), DataError> {
        self.file.sync_all().map_err(self.failed("write"))?;
        fs::rename(&self.path, path).map_err(DataError::io("rename", path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already where it was kept; where not, a leftover does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

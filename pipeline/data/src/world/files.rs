//! The corpus as parquet files.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder},
    datatypes::{DataType, Field, Fields},
    error::ArrowError,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use super::{Chat, Document, Floor, Split, World};
use crate::{DataError, Message};

/// Rows of a row group: readers go by row group, and a small corpus should have several.
const ROWS_PER_GROUP: usize = 4096;

/// How much of the corpus to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldCounts {
    /// Rows of `train.parquet`.
    pub train_documents: usize,
    /// Rows of `valid.parquet`.
    pub valid_documents: usize,
    /// Rows of `chats-train.parquet`.
    pub train_chats: usize,
    /// Rows of `chats-valid.parquet`.
    pub valid_chats: usize,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldFile {
    /// Where it is.
    pub path: PathBuf,
    /// Documents or conversations.
    pub rows: usize,
    /// What a perfect model reaches on it: of documents over all bytes of `text`, of chats over the bytes of the
    /// assistant's messages, given the others.
    pub floor: Floor,
}

/// What [`write_parquet`] wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldReport {
    /// `train.parquet`.
    pub train: WorldFile,
    /// `valid.parquet`.
    pub valid: WorldFile,
    /// `chats-train.parquet`.
    pub chats_train: WorldFile,
    /// `chats-valid.parquet`.
    pub chats_valid: WorldFile,
}

/// Writes the four files into `dir`, which is created where missing. The same arguments give the same bytes.
///
/// Documents have the columns `id`, `text` and `nats`, chats `messages` (list of `role` and `content`), `answer` and
/// `nats`. Each file is written under a temporary name and renamed when complete, so one that exists is whole.
///
/// # Errors
/// When the directory or a file in it cannot be written; files under their final names are then as they were, or new.
pub fn write_parquet(dir: &Path, counts: &WorldCounts, seed: u64) -> Result<WorldReport, DataError> {
    fs::create_dir_all(dir).map_err(|source| cannot_write(dir, source))?;
    let world = World::new(seed);
    let documents = |split: Split, name, count| {
        write_rows(dir.join(name), world.documents(split, count), |rows, start| document_batch(split, rows, start))
    };
    let chats = |split, name, count| write_rows(dir.join(name), world.chats(split, count), |rows, _| chat_batch(rows));
    Ok(WorldReport {
        train: documents(Split::Train, "train.parquet", counts.train_documents)?,
        valid: documents(Split::Valid, "valid.parquet", counts.valid_documents)?,
        chats_train: chats(Split::Train, "chats-train.parquet", counts.train_chats)?,
        chats_valid: chats(Split::Valid, "chats-valid.parquet", counts.valid_chats)?,
    })
}

/// A row with a known probability.
trait Scored {
    fn nats(&self) -> f64;
    /// Bytes that `nats` is over.
    fn bytes(&self) -> usize;
}

impl Scored for Document {
    fn nats(&self) -> f64 {
        self.nats
    }

    fn bytes(&self) -> usize {
        self.text.len()
    }
}

impl Scored for Chat {
    fn nats(&self) -> f64 {
        self.nats
    }

    fn bytes(&self) -> usize {
        self.target_bytes()
    }
}

/// Writes batches of rows; `to_batch` gets rows and the index of the first.
fn write_rows<T: Scored>(
    path: PathBuf,
    rows: impl Iterator<Item = T>,
    to_batch: impl Fn(&[T], usize) -> Result<RecordBatch, ArrowError>,
) -> Result<WorldFile, DataError> {
    let encode = |error| cannot_write(&path, io_error(error));
    let mut temporary = Temporary::create(&path)?;
    let mut written = WorldFile { path: path.clone(), rows: 0, floor: Floor::default() };
    let schema = to_batch(&[], 0).map_err(|error| encode(error.into()))?.schema();
    let mut writer = ArrowWriter::try_new(&mut temporary.file, schema, Some(properties())).map_err(encode)?;
    let mut rows = rows.fuse();
    loop {
        let group: Vec<T> = rows.by_ref().take(ROWS_PER_GROUP).collect();
        if group.is_empty() {
            break;
        }
        group.iter().for_each(|row| written.floor.add(row.nats(), row.bytes()));
        let batch = to_batch(&group, written.rows).map_err(|error| encode(error.into()))?;
        written.rows += group.len();
        writer.write(&batch).and_then(|()| writer.flush()).map_err(encode)?;
    }
    writer.close().map_err(encode)?;
    temporary.publish(&path)?;
    Ok(written)
}

fn properties() -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build()
}

fn document_batch(split: Split, rows: &[Document], start: usize) -> Result<RecordBatch, ArrowError> {
    let ids = (start..).take(rows.len()).map(|index| Some(format!("{}-{index:06}", split.name())));
    let texts = rows.iter().map(|row| Some(row.text.as_str()));
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(ids.collect::<StringArray>())),
        ("text", Arc::new(texts.collect::<StringArray>())),
        ("nats", Arc::new(rows.iter().map(|row| Some(row.nats)).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns)
}

/// Conversations as lists of `role` and `content`.
pub(crate) fn messages_column<'a>(rows: impl Iterator<Item = &'a [Message]>) -> ArrayRef {
    let fields: Fields = ["role", "content"].map(|name| Field::new(name, DataType::Utf8, true)).into_iter().collect();
    let mut messages = ListBuilder::new(StructBuilder::from_fields(fields, 0));
    for row in rows {
        let turns = messages.values();
        for message in row {
            for (column, text) in [message.role.name(), message.content.as_str()].into_iter().enumerate() {
                if let Some(column) = turns.field_builder::<StringBuilder>(column) {
                    column.append_value(text);
                }
            }
            turns.append(true);
        }
        messages.append(true);
    }
    Arc::new(messages.finish())
}

fn chat_batch(rows: &[Chat]) -> Result<RecordBatch, ArrowError> {
    let answers = rows.iter().map(|row| Some(row.answer.as_str()));
    let columns: [(&str, ArrayRef); 3] = [
        ("messages", messages_column(rows.iter().map(|row| &row.messages[..]))),
        ("answer", Arc::new(answers.collect::<StringArray>())),
        ("nats", Arc::new(rows.iter().map(|row| Some(row.nats)).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns)
}

fn cannot_write(path: &Path, source: io::Error) -> DataError {
    DataError::Io { action: "write", path: path.into(), source }
}

/// The system's reason, where the encoder has wrapped one.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}

/// A file that vanishes unless it is published.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn create(target: &Path) -> Result<Temporary, DataError> {
        let path = target.with_extension(format!("parquet.tmp-{}", std::process::id()));
        match File::create(&path) {
            Ok(file) => Ok(Temporary { path, file }),
            Err(source) => Err(cannot_write(&path, source)),
        }
    }

    /// Gives the file its final name once its bytes are on the disk.
    fn publish(&self, target: &Path) -> Result<(), DataError> {
        let renamed = self.file.sync_all().and_then(|()| fs::rename(&self.path, target));
        renamed.map_err(|source| cannot_write(target, source))
    }
}

impl Drop for Temporary {
    /// After a rename there is nothing to remove, after an error nobody to tell.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

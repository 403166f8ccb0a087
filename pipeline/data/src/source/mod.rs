//! Files of documents and conversations, read row by row.

mod chat;
mod columns;
mod files;
mod jsonl;
mod parquet;
mod text;

use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use limbeck_config::DataEntry;

use self::columns::Columns;
use crate::error::DataError;
use crate::message::Message;

pub use self::files::data_files;
pub(crate) use self::files::extension;

/// What one row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A document.
    Document(String),
    /// A conversation.
    Chat(Vec<Message>),
}

impl Record {
    /// The texts in it: the document, or each turn's content.
    pub fn into_texts(self) -> Vec<String> {
        match self {
            Record::Document(text) => vec![text],
            Record::Chat(messages) => messages.into_iter().map(|message| message.content).collect(),
        }
    }
}

/// What became of the rows read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceReport {
    /// Documents or conversations returned.
    pub documents: u64,
    /// Rows without a value, left out.
    pub skipped_null: u64,
    /// Rows with an empty text, or without a word of the assistant's; left out.
    pub skipped_empty: u64,
}

impl AddAssign for SourceReport {
    fn add_assign(&mut self, other: SourceReport) {
        self.documents += other.documents;
        self.skipped_null += other.skipped_null;
        self.skipped_empty += other.skipped_empty;
    }
}

/// A row as a format's reader sees it.
enum Row {
    Null,
    Empty,
    Full(Record),
}

impl Row {
    fn of_text(text: &str) -> Row {
        if text.is_empty() { Row::Empty } else { Row::Full(Record::Document(text.to_owned())) }
    }
}

/// The documents or conversations of one file, in its order. Null and empty ones are skipped and counted.
pub struct Records {
    file: PathBuf,
    rows: Box<dyn Iterator<Item = Result<Row, DataError>> + Send>,
    report: SourceReport,
    failed: bool,
}

impl Records {
    /// Opens one file of `entry`, the format being told by the extension.
    ///
    /// # Errors
    /// A file that is not what its extension says, has no row, or has no such column.
    pub fn open(file: &Path, entry: &DataEntry) -> Result<Records, DataError> {
        let size = std::fs::metadata(file).map_err(DataError::io("open", file))?.len();
        if size == 0 {
            return Err(DataError::NoRows { file: file.to_path_buf() });
        }
        let columns = Columns::of(entry);
        let rows: Box<dyn Iterator<Item = Result<Row, DataError>> + Send> = match files::extension(file).as_str() {
            "parquet" => Box::new(parquet::rows(file, &columns)?),
            "jsonl" => Box::new(jsonl::rows(file, columns)?),
            "txt" => Box::new(text::rows(file, &columns)?),
            other => {
                return Err(DataError::UnknownExtension { file: file.to_path_buf(), extension: other.to_owned() });
            }
        };
        Ok(Records { file: file.to_path_buf(), rows, report: SourceReport::default(), failed: false })
    }

    /// Counts so far; complete once the iterator has ended.
    pub fn report(&self) -> SourceReport {
        self.report
    }

    fn is_untouched(&self) -> bool {
        self.report == SourceReport::default()
    }
}

impl Iterator for Records {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        for row in self.rows.by_ref() {
            match row {
                Ok(Row::Full(record)) => {
                    self.report.documents += 1;
                    return Some(Ok(record));
                }
                Ok(Row::Null) => self.report.skipped_null += 1,
                Ok(Row::Empty) => self.report.skipped_empty += 1,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        self.failed = true;
        self.is_untouched().then(|| Err(DataError::NoRows { file: self.file.clone() }))
    }
}

/// All records of the entries, file by file.
///
/// # Errors
/// Paths that are not there; the iterator's items say what is wrong with a file.
pub fn records(
    entries: &[DataEntry],
) -> Result<impl Iterator<Item = Result<Record, DataError>> + Send + use<>, DataError> {
    let mut files = Vec::new();
    for entry in entries {
        files.extend(data_files(entry)?.into_iter().map(|file| (file, entry.clone())));
    }
    Ok(files.into_iter().flat_map(|(file, entry)| {
        let (records, error) = match Records::open(&file, &entry) {
            Ok(records) => (Some(records), None),
            Err(error) => (None, Some(Err(error))),
        };
        error.into_iter().chain(records.into_iter().flatten())
    }))
}

/// All texts of the entries, file by file: what a tokenizer is trained on.
///
/// # Errors
/// As [`records`].
pub fn texts(entries: &[DataEntry]) -> Result<impl Iterator<Item = Result<String, DataError>> + Send, DataError> {
    Ok(records(entries)?.flat_map(|record| match record {
        Ok(record) => record.into_texts().into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    }))
}

#[cfg(test)]
mod tests;

//! What conversations ask, and what a model answered, as parquet that `sft` reads.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use limbeck_config::{DataEntry, DataKind};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::error::DataError;
use crate::message::{Message, Role};
use crate::source::{Record, records};
use crate::world::messages_column;

/// Rows of a row group, at least: readers go by row group.
const ROWS_PER_GROUP: usize = 4096;

/// A conversation that ends with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The turns, the answer last.
    pub messages: Vec<Message>,
    /// Index of the prompt among those of [`prompts`].
    pub prompt: u64,
    /// Which of the answers to it.
    pub sample: u32,
    /// Whether the model ended it; if not, it was cut off.
    pub finished: bool,
}

/// What every conversation of the entries of chats says before the assistant first speaks, in the order of the files.
///
/// Later turns are left out: they answer an assistant that is not the model. Nothing is said where the assistant begins.
///
/// # Errors
/// Paths that are not there; the iterator's items say what is wrong with a file.
pub fn prompts(
    entries: &[DataEntry],
) -> Result<impl Iterator<Item = Result<Vec<Message>, DataError>> + Send + use<>, DataError> {
    let chats: Vec<DataEntry> = entries.iter().filter(|entry| entry.kind == DataKind::Chats).cloned().collect();
    let prompt = |record| match record {
        Record::Chat(messages) => {
            messages.into_iter().take_while(|message: &Message| message.role != Role::Assistant).collect()
        }
        Record::Document(_) => Vec::new(),
    };
    Ok(records(&chats)?.map(move |record| record.map(prompt)))
}

/// How many prompts there are, and BLAKE3 of what they say.
///
/// # Errors
/// As [`prompts`].
pub fn fingerprint_prompts(entries: &[DataEntry]) -> Result<(u64, String), DataError> {
    let (mut count, mut hasher) = (0, blake3::Hasher::new());
    hasher.update(b"limbeck prompts 1");
    for prompt in prompts(entries)? {
        let prompt = prompt?;
        hasher.update(&(prompt.len() as u64).to_le_bytes());
        for Message { role, content } in prompt {
            hasher.update(role.name().as_bytes()).update(&(content.len() as u64).to_le_bytes());
            hasher.update(content.as_bytes());
        }
        count += 1;
    }
    Ok((count, hasher.finalize().to_hex().to_string()))
}

/// The answers as a parquet file with the columns `messages` (list of `role` and `content`), `prompt`, `sample`,
/// `finished`, and `teacher`, the same in every row. The same arguments give the same bytes.
///
/// # Errors
/// If the encoder refuses; `path`, where the file will be, is for the message.
pub fn answers_to_parquet(answers: &[Answer], teacher: &str, path: &Path) -> Result<Vec<u8>, DataError> {
    let encode = || -> Result<Vec<u8>, ParquetError> {
        let batch = batch(answers, teacher)?;
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties()))?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(bytes)
    };
    encode().map_err(|error| DataError::io("write", path)(io::Error::other(error)))
}

/// Writes what files of [`answers_to_parquet`] hold into one at `path`; gives its rows.
///
/// # Errors
/// A file that is not of [`answers_to_parquet`], or what the file system says.
pub fn join_answers(parts: &[PathBuf], path: &Path) -> Result<u64, DataError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |error: ParquetError| DataError::io("write", &path)(io::Error::other(error))
    };
    let mut file = File::create(path).map_err(DataError::io("create", path))?;
    let schema = batch(&[], "").map_err(refused(path))?.schema();
    let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties())).map_err(refused(path))?;
    let mut rows = 0;
    for part in parts {
        let file = File::open(part).map_err(DataError::io("open", part))?;
        let batches = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        for batch in batches.map_err(refused(part))? {
            let batch = batch.map_err(|error| refused(part)(error.into()))?;
            writer.write(&batch).map_err(refused(path))?;
            rows += batch.num_rows() as u64;
        }
        if writer.in_progress_rows() >= ROWS_PER_GROUP {
            writer.flush().map_err(refused(path))?;
        }
    }
    writer.close().map_err(refused(path))?;
    Ok(rows)
}

fn batch(answers: &[Answer], teacher: &str) -> Result<RecordBatch, ParquetError> {
    let columns: [(&str, ArrayRef); 5] = [
        ("messages", messages_column(answers.iter().map(|answer| &answer.messages[..]))),
        ("prompt", Arc::new(UInt64Array::from_iter_values(answers.iter().map(|answer| answer.prompt)))),
        ("sample", Arc::new(UInt32Array::from_iter_values(answers.iter().map(|answer| answer.sample)))),
        ("finished", Arc::new(answers.iter().map(|answer| Some(answer.finished)).collect::<BooleanArray>())),
        ("teacher", Arc::new(StringArray::from_iter_values(answers.iter().map(|_| teacher)))),
    ];
    // Said outright: an array without a null would make another schema than one of another part.
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?)
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        // The library's version would be part of the bytes.
        .set_created_by("limbeck".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Records;

    fn entry(path: &Path, kind: DataKind) -> DataEntry {
        let path = path.display().to_string();
        DataEntry { path, kind, column: None, prompt_column: None, completion_column: None, weight: 1.0 }
    }

    #[test]
    fn prompts_are_what_comes_before_the_assistant_speaks() {
        let directory = tempfile::tempdir().unwrap();
        let chats = directory.path().join("chats.jsonl");
        let say = |role: &str, text: &str| format!("{{\"role\":\"{role}\",\"content\":\"{text}\"}}");
        let row = |turns: &[String]| format!("{{\"messages\":[{}]}}\n", turns.join(","));
        let first = row(&[
            say("system", "be short"),
            say("user", "one?"),
            say("assistant", "1"),
            say("user", "two?"),
            say("assistant", "2"),
        ]);
        let second = row(&[say("assistant", "hello"), say("user", "three?"), say("assistant", "3")]);
        std::fs::write(&chats, first + &second).unwrap();
        let texts = directory.path().join("texts.txt");
        std::fs::write(&texts, "no chat").unwrap();
        let entries = [entry(&texts, DataKind::Documents), entry(&chats, DataKind::Chats)];
        let prompts: Vec<Vec<Message>> = prompts(&entries).unwrap().collect::<Result<_, _>>().unwrap();
        let asked = vec![Message::new(Role::System, "be short"), Message::new(Role::User, "one?")];
        assert_eq!(prompts, [asked, Vec::new()]);
        let (count, hash) = fingerprint_prompts(&entries).unwrap();
        assert_eq!((count, hash.len()), (2, 64));
        // What the assistant said is no part of it, what the user asked is.
        let text = std::fs::read_to_string(&chats).unwrap();
        std::fs::write(&chats, text.replace("\"2\"", "\"4\"")).unwrap();
        assert_eq!(fingerprint_prompts(&entries).unwrap().1, hash);
        std::fs::write(&chats, text.replace("one?", "two?")).unwrap();
        assert_ne!(fingerprint_prompts(&entries).unwrap().1, hash);
    }

    #[test]
    fn answers_are_chats_that_the_sources_read() {
        let answer = |prompt: u64, text: &str| Answer {
            messages: vec![Message::new(Role::User, format!("{prompt}?")), Message::new(Role::Assistant, text)],
            prompt,
            sample: 1,
            finished: true,
        };
        let answers = [answer(3, "three"), answer(5, "five \u{e9}")];
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, answers: &[Answer]| {
            let path = directory.path().join(name);
            let bytes = answers_to_parquet(answers, "abc", &path).unwrap();
            assert_eq!(bytes, answers_to_parquet(answers, "abc", &path).unwrap());
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let parts = [write("0", &answers[..1]), write("1", &[]), write("2", &answers[1..])];
        let whole = directory.path().join("answers.parquet");
        assert_eq!(join_answers(&parts, &whole).unwrap(), 2);
        let read: Vec<Record> =
            Records::open(&whole, &entry(&whole, DataKind::Chats)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, answers.map(|answer| Record::Chat(answer.messages)));
    }
}

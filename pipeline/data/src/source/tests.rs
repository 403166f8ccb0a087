//! One test a way in which data can be wrong, and the shapes that are read.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{
    ArrayRef, Int32Array, LargeListArray, LargeStringArray, ListArray, RecordBatch, StringArray, StringViewArray,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use limbeck_config::DataKind;
use tempfile::TempDir;

use super::*;
use crate::message::Role;

fn entry(path: impl AsRef<Path>, kind: DataKind) -> DataEntry {
    DataEntry {
        path: path.as_ref().display().to_string(),
        kind,
        column: None,
        prompt_column: None,
        completion_column: None,
        weight: 1.0,
    }
}

fn file(directory: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, bytes).expect("written");
    path
}

fn parquet_file(directory: &TempDir, name: &str, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
    let path = directory.path().join(name);
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("batch");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).expect("created"), batch.schema(), Some(properties))
        .expect("writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    path
}

fn read(entry: &DataEntry) -> Result<(Vec<Record>, SourceReport), DataError> {
    let (mut all, mut report) = (Vec::new(), SourceReport::default());
    for file in data_files(entry)? {
        let mut records = Records::open(&file, entry)?;
        for record in records.by_ref() {
            all.push(record?);
        }
        report += records.report();
    }
    Ok((all, report))
}

fn message_of(entry: &DataEntry) -> String {
    read(entry).expect_err("must be refused").to_string()
}

fn document(text: &str) -> Record {
    Record::Document(text.to_owned())
}

/// Two conversations: (user, assistant) and (system, user, assistant); a null list between them.
fn turns() -> (Fields, ArrayRef, OffsetBuffer<i32>, NullBuffer) {
    let roles = StringArray::from(vec!["user", "assistant", "system", "user", "assistant"]);
    let contents = LargeStringArray::from(vec!["2 + 3?", "5", "Be brief.", "Größe?", "1,8 m"]);
    let fields =
        Fields::from(vec![Field::new("role", DataType::Utf8, true), Field::new("content", DataType::LargeUtf8, true)]);
    let items = StructArray::new(fields.clone(), vec![Arc::new(roles), Arc::new(contents)], None);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 2, 2, 5]));
    (fields, Arc::new(items), offsets, NullBuffer::from(vec![true, false, true]))
}

fn expected_chats() -> Vec<Record> {
    vec![
        Record::Chat(vec![Message::new(Role::User, "2 + 3?"), Message::new(Role::Assistant, "5")]),
        Record::Chat(vec![
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, "Größe?"),
            Message::new(Role::Assistant, "1,8 m"),
        ]),
    ]
}

#[test]
fn parquet_strings_of_any_width_read_alike_and_nulls_and_empties_are_counted() {
    let directory = TempDir::new().expect("directory");
    let values = vec![Some("a"), None, Some(""), Some("bé"), Some(""), Some("c"), Some("d")];
    let columns: [ArrayRef; 3] = [
        Arc::new(StringArray::from(values.clone())),
        Arc::new(LargeStringArray::from(values.clone())),
        Arc::new(StringViewArray::from(values)),
    ];
    for column in columns {
        let other: ArrayRef = Arc::new(Int32Array::from_iter_values(0..7));
        let path = parquet_file(&directory, "x.parquet", vec![("id", other), ("text", column)]);
        let (records, report) = read(&entry(path, DataKind::Documents)).expect("read");
        assert_eq!(records, ["a", "bé", "c", "d"].map(document));
        assert_eq!(report, SourceReport { documents: 4, skipped_null: 1, skipped_empty: 2 });
    }
}

#[test]
fn parquet_lists_of_any_width_hold_messages() {
    let directory = TempDir::new().expect("directory");
    let (fields, items, offsets, nulls) = turns();
    let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
    let narrow = ListArray::new(item.clone(), offsets.clone(), items.clone(), Some(nulls.clone()));
    let wide = OffsetBuffer::new(offsets.iter().map(|offset| i64::from(*offset)).collect::<ScalarBuffer<i64>>());
    let wide = LargeListArray::new(item, wide, items, Some(nulls));
    for column in [Arc::new(narrow) as ArrayRef, Arc::new(wide)] {
        let path = parquet_file(&directory, "x.parquet", vec![("messages", column)]);
        let (records, report) = read(&entry(path, DataKind::Chats)).expect("read");
        assert_eq!(records, expected_chats());
        assert_eq!(report, SourceReport { documents: 2, skipped_null: 1, skipped_empty: 0 });
    }
}

#[test]
fn prompt_and_completion_columns_make_two_turns() {
    let directory = TempDir::new().expect("directory");
    let question: ArrayRef = Arc::new(StringArray::from(vec![Some("q"), Some("r"), None]));
    let answer: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some(""), Some("x")]));
    let parquet = parquet_file(&directory, "x.parquet", vec![("ask", question), ("say", answer)]);
    let jsonl = file(
        &directory,
        "x.jsonl",
        "{\"ask\":\"q\",\"say\":\"a\"}\r\n{\"ask\":\"r\",\"say\":\"\"}\n\n{\"ask\":null,\"say\":\"x\"}",
    );
    for path in [parquet, jsonl] {
        let mut entry = entry(path, DataKind::Chats);
        (entry.prompt_column, entry.completion_column) = (Some("ask".into()), Some("say".into()));
        let (records, report) = read(&entry).expect("read");
        let chat = vec![Message::new(Role::User, "q"), Message::new(Role::Assistant, "a")];
        assert_eq!(records, [Record::Chat(chat)]);
        assert_eq!(report, SourceReport { documents: 1, skipped_null: 1, skipped_empty: 1 });
    }
}

#[test]
fn directories_and_globs_are_read_in_sorted_order() {
    let directory = TempDir::new().expect("directory");
    for name in ["b.txt", "a.jsonl", "c.txt", "notes.md"] {
        let text = if name == "a.jsonl" { "{\"text\":\"a.jsonl\"}\n".to_owned() } else { name.to_owned() };
        file(&directory, name, text);
    }
    let (all, _) = read(&entry(directory.path(), DataKind::Documents)).expect("read");
    assert_eq!(all, ["a.jsonl", "b.txt", "c.txt"].map(document));
    let (some, _) = read(&entry(directory.path().join("*.txt"), DataKind::Documents)).expect("read");
    assert_eq!(some, ["b.txt", "c.txt"].map(document));
}

#[test]
fn a_path_that_is_not_there_is_named() {
    let message = message_of(&entry("no/such.parquet", DataKind::Documents));
    assert_eq!(message, "data path `no/such.parquet` does not exist; hint: it is relative to the working directory");
}

#[test]
fn a_glob_without_a_match_is_named() {
    let message = message_of(&entry("no/such/*.parquet", DataKind::Documents));
    assert!(message.starts_with("data path `no/such/*.parquet` matches no file"), "{message}");
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let directory = TempDir::new().expect("directory");
    let message = message_of(&entry(file(&directory, "x.csv", "a,b"), DataKind::Documents));
    assert!(message.contains("x.csv` has extension `csv`, must be `.parquet`"), "{message}");
}

#[test]
fn a_file_that_is_not_parquet_is_refused() {
    let directory = TempDir::new().expect("directory");
    let message = message_of(&entry(file(&directory, "x.parquet", "not parquet at all"), DataKind::Documents));
    assert!(message.contains("x.parquet` is not a readable parquet file: "), "{message}");
}

#[test]
fn a_truncated_parquet_file_is_refused() {
    let directory = TempDir::new().expect("directory");
    let column: ArrayRef = Arc::new(StringArray::from(vec!["some text"; 5]));
    let path = parquet_file(&directory, "x.parquet", vec![("text", column)]);
    let bytes = fs::read(&path).expect("read");
    fs::write(&path, &bytes[..bytes.len() - 9]).expect("written");
    assert!(message_of(&entry(path, DataKind::Documents)).contains("is not a readable parquet file"));
}

#[test]
fn files_without_rows_are_refused() {
    let directory = TempDir::new().expect("directory");
    let nothing: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
    let paths = [
        file(&directory, "x.parquet", ""),
        file(&directory, "x.jsonl", ""),
        file(&directory, "y.jsonl", "\n \n"),
        file(&directory, "x.txt", ""),
        parquet_file(&directory, "z.parquet", vec![("text", nothing)]),
    ];
    for path in paths {
        let message = message_of(&entry(&path, DataKind::Documents));
        let expected = format!("data file `{}` is empty (`0` rows), must hold at least one row", path.display());
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_missing_column_lists_those_present() {
    let directory = TempDir::new().expect("directory");
    let column = || Arc::new(StringArray::from(vec!["x"])) as ArrayRef;
    let path = parquet_file(&directory, "x.parquet", vec![("title", column()), ("body", column())]);
    let message = message_of(&entry(path, DataKind::Documents));
    assert!(
        message.ends_with(
            "x.parquet` has no column `text`, the columns are `title`, `body`; hint: set `column` to one of them"
        ),
        "{message}"
    );
    let path = file(&directory, "x.jsonl", "{\"text\":\"a\"}\n{\"body\":\"b\",\"title\":\"c\"}\n");
    let message = message_of(&entry(path, DataKind::Documents));
    assert!(message.contains("x.jsonl` row `2` has no key `text`, the keys are `body`, `title`"), "{message}");
}

#[test]
fn a_column_of_another_type_is_refused() {
    let directory = TempDir::new().expect("directory");
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let path = parquet_file(&directory, "x.parquet", vec![("text", numbers.clone()), ("messages", numbers)]);
    let message = message_of(&entry(&path, DataKind::Documents));
    assert!(message.contains("column `text` has type `Int32`, must be a string"), "{message}");
    let message = message_of(&entry(path, DataKind::Chats));
    assert!(message.contains("column `messages` has type `Int32`, must be a list of structs"), "{message}");
    let message = message_of(&entry(file(&directory, "x.jsonl", "{\"text\":[7]}\n"), DataKind::Documents));
    assert!(message.contains("row `1`: `text` is `[7]`, must be a string"), "{message}");
    let message = message_of(&entry(file(&directory, "y.jsonl", "{\"messages\":\"hi\"}\n"), DataKind::Chats));
    assert!(message.contains("row `1`: `messages` is `\"hi\"`, must be a list of objects"), "{message}");
}

#[test]
fn invalid_utf8_names_the_row() {
    let directory = TempDir::new().expect("directory");
    let path = file(&directory, "x.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"b\xff\"}\n");
    let message = message_of(&entry(path, DataKind::Documents));
    assert!(message.contains("x.jsonl` row `2` is not valid UTF-8 at byte `10` of the row"), "{message}");
    let message = message_of(&entry(file(&directory, "x.txt", b"ab\xc3"), DataKind::Documents));
    assert!(message.contains("x.txt` row `1` is not valid UTF-8 at byte `2`"), "{message}");
}

#[test]
fn malformed_json_names_the_row() {
    let directory = TempDir::new().expect("directory");
    let path = file(&directory, "x.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"\n");
    let message = message_of(&entry(path, DataKind::Documents));
    assert!(message.contains("x.jsonl` row `3` is not a JSON object: "), "{message}");
    let message = message_of(&entry(file(&directory, "y.jsonl", "[1]\n"), DataKind::Documents));
    assert!(message.contains("y.jsonl` row `1` is not a JSON object: found `[1]`"), "{message}");
}

#[test]
fn an_unknown_role_is_named() {
    let directory = TempDir::new().expect("directory");
    let line = "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"robot\",\"content\":\"a\"}]}\n";
    let message = message_of(&entry(file(&directory, "x.jsonl", line), DataKind::Chats));
    assert!(message.contains("row `1` has role `robot`, must be `system`, `user` or `assistant`"), "{message}");
}

#[test]
fn a_chat_without_an_assistant_turn_is_refused() {
    let directory = TempDir::new().expect("directory");
    let lines = "{\"messages\":[]}\n{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}\n";
    let message = message_of(&entry(file(&directory, "x.jsonl", lines), DataKind::Chats));
    assert!(message.contains("row `2` has no turn of role `assistant` in `1` turns"), "{message}");
}

#[test]
fn chats_are_not_read_from_text_files() {
    let directory = TempDir::new().expect("directory");
    let message = message_of(&entry(file(&directory, "x.txt", "hello"), DataKind::Chats));
    assert!(message.contains("x.txt` holds text, must be `.parquet` or `.jsonl`"), "{message}");
}

#[test]
fn texts_are_documents_and_turns_of_all_entries() {
    let directory = TempDir::new().expect("directory");
    let chat = "{\"prompt\":\"q\",\"completion\":\"a\"}\n";
    let mut chats = entry(file(&directory, "x.jsonl", chat), DataKind::Chats);
    (chats.prompt_column, chats.completion_column) = (Some("prompt".into()), Some("completion".into()));
    let documents = entry(file(&directory, "x.txt", "text"), DataKind::Documents);
    let all: Vec<_> = texts(&[documents, chats]).expect("files").map(|text| text.expect("read")).collect();
    assert_eq!(all, ["text", "q", "a"]);
}

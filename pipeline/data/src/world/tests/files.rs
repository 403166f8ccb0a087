//! The parquet files.

use std::{fs, path::Path};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::Float64Type,
};
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::{
    super::{Split, World, WorldCounts, write_parquet},
    SEED,
};
use crate::{DataError, Role};

const COUNTS: WorldCounts =
    WorldCounts { train_documents: 5000, valid_documents: 31, train_chats: 53, valid_chats: 17 };
const NAMES: [&str; 4] = ["train.parquet", "valid.parquet", "chats-train.parquet", "chats-valid.parquet"];

/// Size as parquet with zstd.
pub(super) fn bytes_of_one_column(column: ArrayRef) -> usize {
    let batch = RecordBatch::try_from_iter([("text", column)]).expect("a batch");
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(parquet::basic::ZstdLevel::try_new(19).expect("a level")))
        .set_dictionary_enabled(false)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("written");
    let metadata = writer.close().expect("closed");
    metadata.row_group(0).column(0).compressed_size() as usize
}

fn read(path: &Path) -> Vec<RecordBatch> {
    let file = fs::File::open(path).expect("the file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet").with_batch_size(10_000);
    reader.build().expect("a reader").map(|batch| batch.expect("a batch")).collect()
}

#[test]
fn every_run_writes_the_same_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (directory.path().join("a"), directory.path().join("b/c"));
    let report = write_parquet(&first, &COUNTS, SEED).expect("written");
    write_parquet(&second, &COUNTS, SEED).expect("written");
    let bytes = |directory: &Path| NAMES.map(|name| fs::read(directory.join(name)).expect("the file"));
    assert_eq!(bytes(&first), bytes(&second));
    assert_eq!(report.valid.path, first.join("valid.parquet"));
    // A changed table, grammar or parquet version changes them: then write the new ones here and say so in the commit.
    let hashes = bytes(&first).map(|bytes| blake3::hash(&bytes).to_hex()[..16].to_string());
    assert_eq!(hashes, ["c9641e4f7fcc512b", "c460ceb60786d0a8", "8a3355dac89d90c4", "48890935ad834a8d"]);
    let left: Vec<_> = fs::read_dir(&first).expect("the directory").collect();
    assert_eq!(left.len(), NAMES.len());
}

#[test]
fn files_hold_what_the_world_tells() {
    let directory = tempfile::tempdir().expect("a directory");
    let report = write_parquet(directory.path(), &COUNTS, SEED).expect("written");
    let mut row = 0;
    let world = World::new(SEED);
    let mut stories = world.documents(Split::Train, COUNTS.train_documents);
    for batch in read(&report.train.path) {
        let (ids, texts) = (batch["id"].as_string::<i32>(), batch["text"].as_string::<i32>());
        let nats = batch["nats"].as_primitive::<Float64Type>();
        for index in 0..batch.num_rows() {
            let story = stories.next().expect("a story");
            assert_eq!((texts.value(index), nats.value(index)), (story.text.as_str(), story.nats));
            assert_eq!(ids.value(index), format!("train-{row:06}"));
            row += 1;
        }
    }
    assert_eq!((row, report.train.rows), (5000, 5000));
}

#[test]
fn chats_are_lists_of_role_and_content() {
    let directory = tempfile::tempdir().expect("a directory");
    let report = write_parquet(directory.path(), &COUNTS, SEED).expect("written");
    let batches = read(&report.chats_valid.path);
    let batch = &batches[0];
    for (index, chat) in World::new(SEED).chats(Split::Valid, COUNTS.valid_chats).enumerate() {
        let turns = batch["messages"].as_list::<i32>().value(index);
        let (roles, contents) = (turns.as_struct()["role"].clone(), turns.as_struct()["content"].clone());
        assert_eq!(roles.len(), chat.messages.len());
        for (turn, message) in chat.messages.iter().enumerate() {
            assert_eq!(Role::parse(roles.as_string::<i32>().value(turn)), Some(message.role));
            assert_eq!(contents.as_string::<i32>().value(turn), message.content);
        }
        assert_eq!(batch["answer"].as_string::<i32>().value(index), chat.answer);
    }
    assert_eq!(batch.num_rows(), COUNTS.valid_chats);
    assert!(report.chats_valid.floor.bytes > 0 && report.chats_valid.floor.bits_per_byte() < 0.2);
}

#[test]
fn an_empty_split_is_a_file_without_rows() {
    let directory = tempfile::tempdir().expect("a directory");
    let counts = WorldCounts { train_documents: 1, valid_documents: 0, train_chats: 0, valid_chats: 1 };
    let report = write_parquet(directory.path(), &counts, SEED).expect("written");
    assert!(read(&report.valid.path).is_empty() && read(&report.chats_train.path).is_empty());
}

#[test]
fn a_failure_leaves_neither_temporary_files_nor_half_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let occupied = directory.path().join("valid.parquet");
    fs::create_dir_all(occupied.join("inside")).expect("a directory");
    let error = write_parquet(directory.path(), &COUNTS, SEED).expect_err("a directory is in the way");
    assert!(matches!(&error, DataError::Io { path, .. } if *path == occupied), "{error}");
    let mut left: Vec<_> = fs::read_dir(directory.path()).expect("the directory").flatten().collect();
    left.sort_by_key(|entry| entry.file_name());
    assert_eq!(left.iter().map(|entry| entry.file_name()).collect::<Vec<_>>(), ["train.parquet", "valid.parquet"]);

    let file = directory.path().join("train.parquet");
    let error = write_parquet(&file.join("below"), &COUNTS, SEED).expect_err("a file is in the way").to_string();
    assert!(error.contains("train.parquet/below") && error.contains("; hint: "), "{error}");
}

//! The table in a part: a row a segment and set, with list columns.
//!
//! | column | type | codec |
//! |---|---|---|
//! | `entry`, `document`, `segment` | u32, u64, u32 | all: which segment |
//! | `length` | u32 | all: pairs of (input, target) in it |
//! | `set` | u32 | all: which of the independent draws; 0 with other codecs |
//! | `place_gaps` | list of u64 | all: differences of the places, from 0; `full`: of `position * vocab_size`, one a target |
//! | `counts` | list of u16 | `random_sampling`: how often each place was drawn |
//! | `log_probabilities` | list of f32 | `top_k`: natural logarithms, one a place |
//! | `ghost_log_probabilities` | list of f32 | `top_k`: of all other ids together, one a target |
//! | `logits` | list of f32 | `full`: `vocab_size` a place |
//!
//! A place is `position * vocab_size + id`: the cumulative sums of `place_gaps`, which ascend over the whole segment and say
//! at once which position and which id. The differences are small: by the rank of their bytes, zstd makes a tenth to a
//! quarter less of them than of the places as `DELTA_BINARY_PACKED`.
//!
//! The rows of a part are those of its first set in the order of the data, then those of the next. Pages hold whole rows,
//! one or a few: a segment is read with few of its neighbours.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, ListArray, PrimitiveArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, UInt16Type, UInt32Type, UInt64Type};
use limbeck_config::LogitsCodec;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::encode::Row;

/// Key of the file's metadata under which the hash of `cache.json` stands.
pub(crate) const CACHE_KEY: &str = "limbeck.cache";

/// Values of a page, about: short rows share one, since a page has a header and a compression of its own.
const PAGE_VALUES: usize = 4096;
/// Rows of a page at most.
const MOST_PAGE_ROWS: usize = 64;

/// Level of zstd: 15 would save 2 % more and take as long as a small teacher's forward pass.
const ZSTD_LEVEL: i32 = 9;

/// Columns of single values, in their order.
pub(crate) const KEY_COLUMNS: [&str; 5] = ["entry", "document", "segment", "length", "set"];

pub(crate) const PLACE_GAPS: &str = "place_gaps";
pub(crate) const COUNTS: &str = "counts";
pub(crate) const LOG_PROBABILITIES: &str = "log_probabilities";
pub(crate) const GHOST: &str = "ghost_log_probabilities";
pub(crate) const LOGITS: &str = "logits";

/// The list columns of a codec.
pub(crate) fn list_columns(codec: LogitsCodec) -> &'static [&'static str] {
    match codec {
        LogitsCodec::RandomSampling { .. } => &[PLACE_GAPS, COUNTS],
        LogitsCodec::TopK { .. } => &[PLACE_GAPS, LOG_PROBABILITIES, GHOST],
        LogitsCodec::Full {} => &[PLACE_GAPS, LOGITS],
    }
}

/// The bytes of a part with `rows`, of the cache whose `cache.json` has the hash `cache`: a function of its arguments.
pub(crate) fn write(rows: &[Row], codec: LogitsCodec, cache: blake3::Hash) -> Result<Vec<u8>> {
    let batch = batch(rows, codec)?;
    let properties = properties(codec, cache, rows_per_page(rows))?;
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

fn batch(rows: &[Row], codec: LogitsCodec) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = vec![
        single::<UInt32Type>(rows, |row| row.key.entry),
        single::<UInt64Type>(rows, |row| row.key.document),
        single::<UInt32Type>(rows, |row| row.key.segment),
        single::<UInt32Type>(rows, |row| row.length),
        single::<UInt32Type>(rows, |row| row.set),
    ];
    for name in list_columns(codec) {
        columns.push(match *name {
            PLACE_GAPS => list::<UInt64Type>(rows.iter().map(gaps))?,
            COUNTS => list::<UInt16Type>(rows.iter().map(|row| &row.counts))?,
            GHOST => list::<Float32Type>(rows.iter().map(|row| &row.rest))?,
            _ => list::<Float32Type>(rows.iter().map(|row| &row.floats))?,
        });
    }
    let names = KEY_COLUMNS.iter().chain(list_columns(codec));
    let fields = names.zip(&columns).map(|(name, column)| Field::new(*name, column.data_type().clone(), false));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn single<T: ArrowPrimitiveType>(rows: &[Row], value: impl Fn(&Row) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(rows.iter().map(value)))
}

fn gaps(row: &Row) -> Vec<u64> {
    let before = std::iter::once(0).chain(row.places.iter().copied());
    row.places.iter().zip(before).map(|(place, before)| place - before).collect()
}

fn list<T: ArrowPrimitiveType>(lists: impl Iterator<Item: AsRef<[T::Native]>>) -> Result<ArrayRef> {
    let (mut lengths, mut values) = (Vec::new(), Vec::new());
    for list in lists {
        lengths.push(list.as_ref().len());
        values.extend_from_slice(list.as_ref());
    }
    if values.len() > i32::MAX as usize {
        return Err(ParquetError::General("a part holds over 2^31 values".to_owned()));
    }
    let values = PrimitiveArray::<T>::from_iter_values(values);
    let item = Arc::new(Field::new("element", values.data_type().clone(), false));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(values), None)?))
}

fn rows_per_page(rows: &[Row]) -> usize {
    let values: usize = rows.iter().map(|row| row.places.len().max(row.floats.len())).sum();
    (PAGE_VALUES * rows.len()).checked_div(values).unwrap_or(1).clamp(1, MOST_PAGE_ROWS)
}

fn properties(codec: LogitsCodec, cache: blake3::Hash, rows_per_page: usize) -> Result<WriterProperties> {
    let builder = WriterProperties::builder()
        // The library's version would be part of the bytes.
        .set_created_by("limbeck".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_write_batch_size(1)
        .set_key_value_metadata(Some(vec![KeyValue::new(CACHE_KEY.to_owned(), cache.to_hex().to_string())]));
    let lists = list_columns(codec).iter();
    Ok(lists.fold(builder, |builder, name| list_properties(builder, name, rows_per_page)).build())
}

fn list_properties(builder: WriterPropertiesBuilder, name: &str, rows_per_page: usize) -> WriterPropertiesBuilder {
    let path = || ColumnPath::new(vec![name.to_owned(), "list".to_owned(), "element".to_owned()]);
    builder
        .set_column_encoding(path(), Encoding::BYTE_STREAM_SPLIT)
        .set_column_data_page_row_count_limit(path(), rows_per_page)
}

/// Whether a table's columns are those of the codec.
pub(crate) fn check_schema(schema: &Schema, codec: LogitsCodec) -> std::result::Result<(), String> {
    let expected = batch(&[], codec).map_err(|error| error.to_string())?.schema();
    for field in expected.fields() {
        let found = schema.field_with_name(field.name()).map_err(|_| format!("it has no column `{}`", field.name()))?;
        if !same_type(found.data_type(), field.data_type()) {
            let (name, found) = (field.name(), found.data_type());
            return Err(format!("its column `{name}` has type `{found}`, must be `{}`", field.data_type()));
        }
    }
    Ok(())
}

/// Whether two types are the same, whatever list items are called.
fn same_type(one: &DataType, other: &DataType) -> bool {
    match (one, other) {
        (DataType::List(one), DataType::List(other)) => one.data_type() == other.data_type(),
        _ => one == other,
    }
}

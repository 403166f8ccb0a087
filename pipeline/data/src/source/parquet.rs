//! `.parquet`: columns by name, a row group at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::vec;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::Row;
use super::chat::{Turn, row_of_prompt, row_of_turns};
use super::columns::{Column, Columns};
use crate::error::{DataError, quoted};

/// Rows decoded at once: small, so that a batch of long documents stays under the 2 GiB of a string array.
const BATCH_ROWS: usize = 64;

const STRING: &str = "a string";
const MESSAGES: &str = "a list of structs with strings `role` and `content`";

/// The rows; memory is bounded by the pages of the chosen columns in one row group.
pub(super) fn rows(
    file: &Path,
    columns: &Columns,
) -> Result<impl Iterator<Item = Result<Row, DataError>> + Send + use<>, DataError> {
    let opened = File::open(file).map_err(DataError::io("open", file))?;
    // Without the writer's Arrow schema, strings of any width (`Utf8`, `LargeUtf8`, `Utf8View`, dictionaries) come as
    // `Utf8` and lists of any width as `List`: Parquet itself stores them alike.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(opened, options).map_err(bad(file))?;
    let roots = columns
        .all()
        .into_iter()
        .map(|column| check(file, builder.schema(), column, matches!(columns, Columns::Messages(_))))
        .collect::<Result<Vec<_>, _>>()?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(bad(file))?;
    Ok(Rows { file: file.to_path_buf(), columns: columns.clone(), reader, batch: Vec::new().into_iter(), row: 0 })
}

fn bad<E: std::fmt::Display>(file: &Path) -> impl FnOnce(E) -> DataError {
    let file = file.to_path_buf();
    move |error| DataError::NotParquet { file, reason: error.to_string() }
}

/// The root index of `column`, which has the right type.
fn check(file: &Path, schema: &Schema, column: &Column, messages: bool) -> Result<usize, DataError> {
    let (index, field) = schema.column_with_name(&column.name).ok_or_else(|| DataError::MissingColumn {
        file: file.to_path_buf(),
        column: column.name.clone(),
        present: quoted(schema.fields().iter().map(|field| field.name().as_str())),
        key: column.key,
    })?;
    let fits = if messages { holds_messages(field) } else { field.data_type() == &DataType::Utf8 };
    if fits {
        return Ok(index);
    }
    Err(DataError::ColumnType {
        file: file.to_path_buf(),
        column: column.name.clone(),
        found: field.data_type().to_string(),
        expected: if messages { MESSAGES } else { STRING },
        key: column.key,
    })
}

fn holds_messages(field: &Field) -> bool {
    let DataType::List(item) = field.data_type() else { return false };
    let DataType::Struct(parts) = item.data_type() else { return false };
    ["role", "content"].iter().all(|name| parts.find(name).is_some_and(|(_, part)| part.data_type() == &DataType::Utf8))
}

struct Rows {
    file: PathBuf,
    columns: Columns,
    reader: ParquetRecordBatchReader,
    batch: vec::IntoIter<Result<Row, DataError>>,
    /// Rows read.
    row: u64,
}

impl Iterator for Rows {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(row);
            }
            match self.reader.next()? {
                Ok(batch) => self.batch = self.decode(&batch).into_iter(),
                Err(error) => return Some(Err(bad(&self.file)(error))),
            }
        }
    }
}

impl Rows {
    fn decode(&mut self, batch: &RecordBatch) -> Vec<Result<Row, DataError>> {
        let first = self.row;
        self.row += batch.num_rows() as u64;
        // Types were checked against the file's schema; a column that is not there now would be the reader's fault.
        let column = |column: &Column| batch.column_by_name(&column.name);
        let rows = match &self.columns {
            Columns::Text(text) => column(text).and_then(documents),
            Columns::Turns { prompt, completion } => {
                column(prompt).zip(column(completion)).and_then(|(prompt, completion)| turns(prompt, completion))
            }
            Columns::Messages(messages) => column(messages).and_then(|list| conversations(&self.file, first, list)),
        };
        rows.unwrap_or_else(|| vec![Err(bad(&self.file)("a column changed its type within the file"))])
    }
}

fn value(strings: &StringArray, row: usize) -> Option<&str> {
    strings.is_valid(row).then(|| strings.value(row))
}

fn documents(column: &ArrayRef) -> Option<Vec<Result<Row, DataError>>> {
    let texts = column.as_string_opt::<i32>()?;
    Some((0..texts.len()).map(|row| Ok(value(texts, row).map_or(Row::Null, Row::of_text))).collect())
}

fn turns(prompts: &ArrayRef, completions: &ArrayRef) -> Option<Vec<Result<Row, DataError>>> {
    let (prompts, completions) = (prompts.as_string_opt::<i32>()?, completions.as_string_opt::<i32>()?);
    Some((0..prompts.len()).map(|row| Ok(row_of_prompt(value(prompts, row), value(completions, row)))).collect())
}

fn conversations(file: &Path, first: u64, column: &ArrayRef) -> Option<Vec<Result<Row, DataError>>> {
    let lists: &ListArray = column.as_list_opt::<i32>()?;
    (0..lists.len())
        .map(|row| {
            if lists.is_null(row) {
                return Some(Ok(Row::Null));
            }
            let items = lists.value(row);
            let items = items.as_struct_opt()?;
            let roles = items.column_by_name("role")?.as_string_opt::<i32>()?;
            let contents = items.column_by_name("content")?.as_string_opt::<i32>()?;
            let turns: Vec<Turn<'_>> =
                (0..items.len()).map(|turn| (value(roles, turn), value(contents, turn))).collect();
            Some(row_of_turns(file, first + row as u64 + 1, &turns))
        })
        .collect()
}

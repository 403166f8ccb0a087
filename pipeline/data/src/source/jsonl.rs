//! `.jsonl`: one object a line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Row;
use super::chat::{row_of_prompt, row_of_turns};
use super::columns::{Column, Columns};
use crate::error::{DataError, quoted, shortened};

/// The rows, line by line. Blank lines hold no row, but count as lines.
pub(super) fn rows(
    file: &Path,
    columns: Columns,
) -> Result<impl Iterator<Item = Result<Row, DataError>> + Send + use<>, DataError> {
    let reader = BufReader::new(File::open(file).map_err(DataError::io("open", file))?);
    Ok(Lines { file: file.to_path_buf(), reader, columns, row: 0 })
}

struct Lines {
    file: PathBuf,
    reader: BufReader<File>,
    columns: Columns,
    row: u64,
}

impl Iterator for Lines {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        loop {
            line.clear();
            match self.reader.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => self.row += 1,
                Err(error) => return Some(Err(DataError::io("read", &self.file)(error))),
            }
            if !line.trim_ascii().is_empty() {
                return Some(self.parse(&line));
            }
        }
    }
}

impl Lines {
    fn parse(&self, line: &[u8]) -> Result<Row, DataError> {
        let line = if self.row == 1 { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) } else { line };
        let text = std::str::from_utf8(line).map_err(|error| DataError::InvalidUtf8 {
            file: self.file.clone(),
            row: self.row,
            byte: error.valid_up_to(),
        })?;
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => self.row(&object),
            Ok(other) => Err(self.malformed(format!("found `{}`", shortened(&other.to_string())))),
            Err(error) => Err(self.malformed(error.to_string())),
        }
    }

    fn malformed(&self, reason: String) -> DataError {
        DataError::MalformedJson { file: self.file.clone(), row: self.row, reason }
    }

    fn row(&self, object: &Map<String, Value>) -> Result<Row, DataError> {
        match &self.columns {
            Columns::Text(column) => Ok(self.text(object, column)?.map_or(Row::Null, Row::of_text)),
            Columns::Turns { prompt, completion } => {
                Ok(row_of_prompt(self.text(object, prompt)?, self.text(object, completion)?))
            }
            Columns::Messages(column) => match self.value(object, column)? {
                Value::Null => Ok(Row::Null),
                Value::Array(turns) => self.turns(turns, column),
                other => Err(self.wrong(&column.name, other, "a list of objects with `role` and `content`")),
            },
        }
    }

    fn turns(&self, turns: &[Value], column: &Column) -> Result<Row, DataError> {
        let mut pairs = Vec::with_capacity(turns.len());
        for turn in turns {
            let Value::Object(object) = turn else {
                return Err(self.wrong(&column.name, turn, "a list of objects with `role` and `content`"));
            };
            let part = |name: &'static str| match object.get(name) {
                Some(Value::String(text)) => Ok(Some(text.as_str())),
                Some(Value::Null) | None => Ok(None),
                Some(other) => Err(self.wrong(&format!("{}.{name}", column.name), other, "a string")),
            };
            pairs.push((part("role")?, part("content")?));
        }
        row_of_turns(&self.file, self.row, &pairs)
    }

    fn value<'a>(&self, object: &'a Map<String, Value>, column: &Column) -> Result<&'a Value, DataError> {
        object.get(&column.name).ok_or_else(|| DataError::MissingKey {
            file: self.file.clone(),
            row: self.row,
            column: column.name.clone(),
            present: quoted(object.keys().map(String::as_str)),
            key: column.key,
        })
    }

    fn text<'a>(&self, object: &'a Map<String, Value>, column: &Column) -> Result<Option<&'a str>, DataError> {
        match self.value(object, column)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => Err(self.wrong(&column.name, other, "a string")),
        }
    }

    fn wrong(&self, column: &str, found: &Value, expected: &'static str) -> DataError {
        DataError::ValueType {
            file: self.file.clone(),
            row: self.row,
            column: column.to_owned(),
            found: shortened(&found.to_string()),
            expected,
        }
    }
}

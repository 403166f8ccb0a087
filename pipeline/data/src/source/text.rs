//! `.txt`: the whole file is one document.

use std::fs;
use std::path::Path;

use super::columns::Columns;
use super::{Record, Row};
use crate::error::DataError;

/// The one row.
pub(super) fn rows(
    file: &Path,
    columns: &Columns,
) -> Result<impl Iterator<Item = Result<Row, DataError>> + Send + use<>, DataError> {
    if !matches!(columns, Columns::Text(_)) {
        return Err(DataError::NoChatsInText { file: file.to_path_buf() });
    }
    let bytes = fs::read(file).map_err(DataError::io("read", file))?;
    let text = String::from_utf8(bytes).map_err(|error| DataError::InvalidUtf8 {
        file: file.to_path_buf(),
        row: 1,
        byte: error.utf8_error().valid_up_to(),
    })?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let row = (!text.is_empty()).then_some(Ok(Row::Full(Record::Document(text))));
    Ok(row.into_iter())
}

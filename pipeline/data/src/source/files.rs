//! From a configured path to files.

use std::fs;
use std::path::{Path, PathBuf};

use limbeck_config::DataEntry;

use crate::error::DataError;

const EXTENSIONS: [&str; 3] = ["parquet", "jsonl", "txt"];

/// The lower-case extension, or nothing.
pub(crate) fn extension(file: &Path) -> String {
    file.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// The files of an entry, sorted by path: the path itself, the data files in the directory (not below), or the glob's
/// matches.
///
/// # Errors
/// A path that is not there; a directory or glob without a data file; another extension.
pub fn data_files(entry: &DataEntry) -> Result<Vec<PathBuf>, DataError> {
    let path = Path::new(&entry.path);
    if path.is_dir() {
        return in_directory(path, &entry.path);
    }
    if path.exists() {
        return known(path).map(|()| vec![path.to_path_buf()]);
    }
    if entry.path.contains(['*', '?', '[']) {
        return matching(&entry.path);
    }
    Err(DataError::PathMissing { path: entry.path.clone() })
}

fn known(file: &Path) -> Result<(), DataError> {
    let extension = extension(file);
    if EXTENSIONS.contains(&extension.as_str()) {
        return Ok(());
    }
    Err(DataError::UnknownExtension { file: file.to_path_buf(), extension })
}

fn in_directory(directory: &Path, configured: &str) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for item in fs::read_dir(directory).map_err(DataError::io("list", directory))? {
        let file = item.map_err(DataError::io("list", directory))?.path();
        if file.is_file() && known(&file).is_ok() {
            files.push(file);
        }
    }
    sorted(files, configured, "name the files' own directory, directories below are not searched")
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let bad = |reason: String| DataError::BadGlob { path: pattern.to_owned(), reason };
    let mut files = Vec::new();
    for item in glob::glob(pattern).map_err(|error| bad(error.to_string()))? {
        let file = item.map_err(|error| bad(error.to_string()))?;
        if file.is_file() {
            known(&file)?;
            files.push(file);
        }
    }
    sorted(files, pattern, "it is relative to the working directory; quote it in the config, not for the shell")
}

fn sorted(mut files: Vec<PathBuf>, configured: &str, hint: &'static str) -> Result<Vec<PathBuf>, DataError> {
    if files.is_empty() {
        return Err(DataError::NoMatch { path: configured.to_owned(), hint });
    }
    files.sort();
    Ok(files)
}

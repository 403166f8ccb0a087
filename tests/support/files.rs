//! Directories as the hashes of their files.

use std::collections::BTreeMap;
use std::path::Path;

use limbeck_checkpoint::content_hash;

/// Hash of every file below a directory by its path in it. The lock, which names the process that last had it, is left
/// out; what is not there has no files.
pub(crate) fn hashes(directory: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    if directory.exists() {
        collect(directory, "", &mut hashes)?;
    }
    Ok(hashes)
}

fn collect(directory: &Path, prefix: &str, hashes: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), hashes)?;
        } else if name != ".lock" {
            hashes.insert(format!("{prefix}{name}"), content_hash(&std::fs::read(&path)?));
        }
    }
    Ok(())
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            std::fs::copy(&path, to)?;
        }
    }
    Ok(())
}

/// Names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Turns one bit in the middle of a file.
pub(crate) fn damage(file: &Path) -> anyhow::Result<()> {
    let mut bytes = std::fs::read(file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(std::fs::write(file, bytes)?)
}

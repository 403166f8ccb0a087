//! The text of a config: its values and where each was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table};

use crate::problem::{ConfigError, Origin, is_within};

/// A parsed file.
pub(crate) struct Document {
    pub(crate) table: Table,
    path: PathBuf,
    /// By key from the top, such as `data.train.0.path`.
    origins: BTreeMap<String, Origin>,
}

impl Document {
    /// Parses the text of the file at `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Vec<ConfigError>> {
        let syntax = |error: &toml::de::Error| {
            let line = error.span().map(|span| line_at(text, span.start));
            let origin = Origin::File { path: path.into(), line };
            ConfigError::Syntax { origin, message: error.message().replace('\n', ", ") }
        };
        let (spans, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let mut errors: Vec<ConfigError> = errors.iter().map(syntax).collect();
            // One slip makes the parser stumble several times.
            errors.dedup_by_key(|error| match error {
                ConfigError::Syntax { origin, .. } => Some(origin.clone()),
                _ => None,
            });
            return Err(errors);
        }
        let table = text.parse::<Table>().map_err(|error| vec![syntax(&error)])?;
        let mut document = Self { table, path: path.into(), origins: BTreeMap::new() };
        document.locate(spans.get_ref(), "", text);
        Ok(document)
    }

    fn locate(&mut self, table: &DeTable<'_>, section: &str, text: &str) {
        for (name, value) in table {
            let name_text = name.get_ref();
            let key = if section.is_empty() { name_text.to_string() } else { format!("{section}.{name_text}") };
            self.locate_value(value, key, name.span().start, text);
        }
    }

    fn locate_value(&mut self, value: &Spanned<DeValue<'_>>, key: String, start: usize, text: &str) {
        match value.get_ref() {
            DeValue::Table(table) => self.locate(table, &key, text),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.locate_value(item, format!("{key}.{index}"), item.span().start, text);
                }
            }
            _ => {}
        }
        let line = Some(line_at(text, start));
        self.origins.insert(key, Origin::File { path: self.path.clone(), line });
    }

    /// Where `key` was written; for what is missing, the nearest section around it.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin.clone();
            }
            match key.rsplit_once('.') {
                Some((section, _)) => key = section,
                None => return Origin::File { path: self.path.clone(), line: None },
            }
        }
    }

    /// Notes that `key` and all in it come from `override_text`, and the sections around it where they are new.
    pub(crate) fn set_origin(&mut self, key: &str, override_text: &str) {
        let origin = Origin::Set(override_text.into());
        self.forget_origin(key);
        for (end, _) in key.match_indices('.') {
            self.origins.entry(key[..end].into()).or_insert_with(|| origin.clone());
        }
        self.origins.insert(key.into(), origin);
    }

    /// Forgets where `key` and all in it came from.
    pub(crate) fn forget_origin(&mut self, key: &str) {
        self.origins.retain(|other, _| !is_within(other, key));
    }

    /// Takes over the origins of `from`, which was meant to be `to`.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let inside = self.origins.iter().filter(|(key, _)| is_within(key, from));
        let renamed: Vec<_> =
            inside.map(|(key, origin)| (format!("{to}{}", &key[from.len()..]), origin.clone())).collect();
        // The misspelt keys stay, for the message about them.
        self.origins.extend(renamed);
    }
}

/// Line of a byte, counted from 1.
fn line_at(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|&byte| byte == b'\n').count()
}

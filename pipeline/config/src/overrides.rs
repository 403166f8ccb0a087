//! `--set key.path=value`.

use toml::{Table, Value};

use crate::document::Document;
use crate::problem::ConfigError;

/// Applies overrides in their order: the last one of a key counts. Returns what cannot be applied.
///
/// The key is the one of the file from its top, with indices of lists counted from 0 (`data.train.0.path`); the index
/// after the last adds an entry. The value is TOML, or else the text as it stands, so that paths and names need no
/// quotes. What looks like a number, `true`, a list or a section, but is a text, does: `run.name='"7"'`. No value at all
/// takes the key out, so that its default counts.
pub(crate) fn apply(document: &mut Document, overrides: &[String]) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for text in overrides {
        if let Err((rule, hint)) = apply_one(document, text) {
            errors.push(ConfigError::Override { text: text.clone(), rule, hint });
        }
    }
    errors
}

/// A rule and a hint.
type Refusal = (String, String);

fn apply_one(document: &mut Document, text: &str) -> Result<(), Refusal> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(("must be key.path=value".into(), "such as --set train.max_steps=100".into()));
    };
    let key = key.trim();
    let segments: Vec<&str> = key.split('.').collect();
    if let Some(segment) = segments.iter().find(|segment| !is_bare(segment)) {
        let rule = format!("`{segment}` in key `{key}` must be letters, digits, `_` and `-`");
        return Err((rule, "write the keys of the file joined by dots, such as data.train.0.path".into()));
    }
    if value.trim().is_empty() {
        remove(&mut document.table, &segments, key)?;
        document.forget_origin(key);
        return Ok(());
    }
    insert(&mut document.table, &segments, parse_value(value)?)?;
    document.set_origin(key, text);
    Ok(())
}

/// `key` is what `segments` were.
fn remove(table: &mut Table, segments: &[&str], key: &str) -> Result<(), Refusal> {
    let removed = match segments {
        [] => None,
        [name] => table.remove(*name),
        [first, inner @ .., name] => {
            let section = inner.iter().try_fold(table.get_mut(*first), |section, segment| {
                Some(match (section?, segment.parse::<usize>()) {
                    (Value::Array(items), Ok(index)) => items.get_mut(index),
                    (Value::Table(table), _) => table.get_mut(*segment),
                    _ => None,
                })
            });
            section.flatten().and_then(Value::as_table_mut).and_then(|table| table.remove(*name))
        }
    };
    removed.map(drop).ok_or_else(|| {
        let rule = format!("there is no `{key}` to take out");
        (rule, "an empty value takes a key out, so that its default counts; entries of lists stay".into())
    })
}

/// A key that TOML reads without quotes.
fn is_bare(segment: &str) -> bool {
    !segment.is_empty() && segment.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter))
}

fn parse_value(text: &str) -> Result<Value, Refusal> {
    let text = text.trim();
    let as_text = || Value::String(text.into());
    match format!("value = {text}").parse::<Table>() {
        // A line break in the text could have brought other keys.
        Ok(mut table) if table.len() == 1 => match table.remove("value") {
            // No key is a date, but a name may look like one.
            None | Some(Value::Datetime(_)) => Ok(as_text()),
            Some(value) => Ok(value),
        },
        Err(error) if text.starts_with(['"', '\'', '[', '{']) => {
            let rule = format!("the value is not TOML: {}", error.message().replace('\n', ", "));
            Err((rule, "close the quotes and brackets, and quote the whole for the shell".into()))
        }
        _ => Ok(as_text()),
    }
}

fn insert(table: &mut Table, segments: &[&str], value: Value) -> Result<(), Refusal> {
    let Some((first, rest)) = segments.split_first() else { return Ok(()) };
    if rest.is_empty() {
        table.insert((*first).into(), value);
        return Ok(());
    }
    let section =
        table.entry(*first).or_insert_with(|| match rest.first().and_then(|next| next.parse::<usize>().ok()) {
            Some(_) => Value::Array(Vec::new()),
            None => Value::Table(Table::new()),
        });
    insert_into(section, first, rest, value)
}

/// `name` is that of `section`, for messages.
fn insert_into(section: &mut Value, name: &str, segments: &[&str], value: Value) -> Result<(), Refusal> {
    match section {
        Value::Table(table) => insert(table, segments, value),
        Value::Array(items) => insert_item(items, name, segments, value),
        other => {
            let rule = format!("`{name}` is `{other}`, must be a section or a list to set something in it");
            Err((rule, format!("set {name} itself")))
        }
    }
}

fn insert_item(items: &mut Vec<Value>, name: &str, segments: &[&str], value: Value) -> Result<(), Refusal> {
    let Some((index, rest)) = segments.split_first() else { return Ok(()) };
    let length = items.len();
    let hint = format!("use an index from 0 to {length}; {length} adds an entry");
    let index = index
        .parse::<usize>()
        .map_err(|_| (format!("`{index}` must be an index of the list `{name}`"), hint.clone()))?;
    if index > length {
        return Err((format!("index `{index}` is beyond the `{length}` entries of `{name}`"), hint));
    }
    if index == length {
        items.push(Value::Table(Table::new()));
    }
    match rest {
        [] => items[index] = value,
        rest => insert_into(&mut items[index], name, rest, value)?,
    }
    Ok(())
}

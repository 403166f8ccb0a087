//! Rules of a conversation, the same for every format.

use std::path::Path;

use super::{Record, Row};
use crate::error::{DataError, shortened};
use crate::message::{Message, Role};

/// A turn as found; `None` is null.
pub(super) type Turn<'a> = (Option<&'a str>, Option<&'a str>);

/// Checks a list of (role, content). A null turn makes the row null.
pub(super) fn row_of_turns(file: &Path, row: u64, turns: &[Turn<'_>]) -> Result<Row, DataError> {
    if turns.is_empty() {
        return Ok(Row::Empty);
    }
    let mut messages = Vec::with_capacity(turns.len());
    for (role, content) in turns {
        let name = role.unwrap_or("null");
        let role = Role::parse(name).ok_or_else(|| DataError::UnknownRole {
            file: file.to_path_buf(),
            row,
            role: shortened(name),
        })?;
        messages.push((role, *content));
    }
    if !messages.iter().any(|(role, _)| *role == Role::Assistant) {
        return Err(DataError::NoAssistantTurn { file: file.to_path_buf(), row, turns: turns.len() });
    }
    let Some(messages) = messages
        .into_iter()
        .map(|(role, content)| content.map(|content| Message::new(role, content)))
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(Row::Null);
    };
    let says_something = messages.iter().any(|message| message.role == Role::Assistant && !message.content.is_empty());
    Ok(if says_something { Row::Full(Record::Chat(messages)) } else { Row::Empty })
}

/// One turn each.
pub(super) fn row_of_prompt(prompt: Option<&str>, completion: Option<&str>) -> Row {
    match (prompt, completion) {
        (Some(""), _) | (_, Some("")) => Row::Empty,
        (Some(prompt), Some(completion)) => {
            Row::Full(Record::Chat(vec![Message::new(Role::User, prompt), Message::new(Role::Assistant, completion)]))
        }
        _ => Row::Null,
    }
}

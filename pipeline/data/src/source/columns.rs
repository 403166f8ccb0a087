//! Which columns of a file hold the text or the conversation.

use limbeck_config::{DataEntry, DataKind};

/// A column and the config key that names it, for messages.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) key: &'static str,
}

/// Where a row's content is.
#[derive(Clone, Debug)]
pub(super) enum Columns {
    /// A text.
    Text(Column),
    /// A list of (role, content).
    Messages(Column),
    /// One turn of the user's and one of the assistant's.
    Turns { prompt: Column, completion: Column },
}

impl Columns {
    pub(super) fn of(entry: &DataEntry) -> Columns {
        let column = |key, name: &Option<String>, default: &str| Column {
            name: name.clone().unwrap_or_else(|| default.to_owned()),
            key,
        };
        match entry.kind {
            DataKind::Documents => Columns::Text(column("column", &entry.column, "text")),
            DataKind::Chats if entry.prompt_column.is_some() || entry.completion_column.is_some() => Columns::Turns {
                prompt: column("prompt_column", &entry.prompt_column, "prompt"),
                completion: column("completion_column", &entry.completion_column, "completion"),
            },
            DataKind::Chats => Columns::Messages(column("column", &entry.column, "messages")),
        }
    }

    pub(super) fn all(&self) -> Vec<&Column> {
        match self {
            Columns::Text(column) | Columns::Messages(column) => vec![column],
            Columns::Turns { prompt, completion } => vec![prompt, completion],
        }
    }
}

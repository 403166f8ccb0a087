//! `[data]`: what is read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::rules;

/// What a data file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Texts; every token is a target.
    Documents,
    /// Conversations; the assistant's tokens and its end-of-turn are targets.
    Chats,
}

/// One `[[data.train]]` or `[[data.valid]]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataEntry {
    /// A file, a directory or a glob of `.parquet`, `.jsonl` or `.txt` files, relative to the working directory.
    pub path: String,
    /// What the files hold.
    #[serde(default = "documents")]
    pub kind: DataKind,
    /// Column (key, in JSONL) of the text, default `text`; for chats of the list of messages, default `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Chats without messages: column of the user's turn. Given together with `completion_column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_column: Option<String>,
    /// Chats without messages: column of the assistant's turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_column: Option<String>,
    /// Share of the training rows, relative to the other entries' weights.
    #[serde(default = "one")]
    pub weight: f64,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// A `tokenizer.json`; default: that of `start.from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Tokens in a row of a batch, and the longest segment.
    pub sequence_length: usize,
    /// Directory of the tokenised shards.
    #[serde(default = "cache")]
    pub cache: PathBuf,
    /// What is trained on.
    pub train: Vec<DataEntry>,
    /// What is held out.
    #[serde(default)]
    pub valid: Vec<DataEntry>,
}

fn documents() -> DataKind {
    DataKind::Documents
}

fn one() -> f64 {
    1.0
}

pub(crate) fn cache() -> PathBuf {
    "data/cache".into()
}

impl DataEntry {
    /// `key` is that of the entry, such as `data.train.0`.
    fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        rules::not_empty(problems, &format!("{key}.path"), &self.path, "data/tiny/train.parquet");
        rules::positive(problems, &format!("{key}.weight"), self.weight, "1.0");
        let columns = [
            ("column", &self.column),
            ("prompt_column", &self.prompt_column),
            ("completion_column", &self.completion_column),
        ];
        for (name, column) in columns {
            if let Some(column) = column {
                rules::not_empty(problems, &format!("{key}.{name}"), column, "text");
            }
        }
        self.check_turns(key, problems);
    }

    /// The two columns of chats that have no list of messages.
    fn check_turns(&self, key: &str, problems: &mut Vec<Problem>) {
        let (prompt, completion) = (format!("{key}.prompt_column"), format!("{key}.completion_column"));
        let (given, value) = match (&self.prompt_column, &self.completion_column) {
            (None, None) => return,
            (Some(value), None) => {
                let rule = format!("goes with {prompt} = `{value}`");
                problems.push(Problem::missing(&completion, rule).reads(&prompt).hint("name the assistant's column"));
                (prompt, value)
            }
            (None, Some(value)) => {
                let rule = format!("goes with {completion} = `{value}`");
                problems.push(Problem::missing(&prompt, rule).reads(&completion).hint("name the user's column"));
                (completion, value)
            }
            (Some(value), Some(_)) => (prompt, value),
        };
        if self.kind != DataKind::Chats {
            let problem =
                Problem::new(&given, value, format!("needs {key}.kind = `chats`")).reads(format!("{key}.kind"));
            problems.push(problem.hint("set kind to `chats`, or give `column` for documents"));
        }
        if let Some(column) = &self.column {
            let name = format!("{key}.column");
            problems.push(
                Problem::new(&given, value, format!("must not be given with {name} = `{column}`"))
                    .reads(name)
                    .hint("keep `column` for a list of messages, or the two columns for one turn each"),
            );
        }
    }
}

/// Checks the entries of `data.train` or `data.valid`.
pub(crate) fn check_entries(key: &str, entries: &[DataEntry], problems: &mut Vec<Problem>) {
    for (index, entry) in entries.iter().enumerate() {
        entry.check(&format!("{key}.{index}"), problems);
    }
}

/// Checks that there is something to train on.
pub(crate) fn check_training_entries(entries: &[DataEntry], problems: &mut Vec<Problem>) {
    if entries.is_empty() {
        problems.push(
            Problem::missing("data.train", "must have at least one entry").hint("add [[data.train]] with a `path`"),
        );
    }
    check_entries("data.train", entries, problems);
}

impl DataSection {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        rules::at_least(problems, "data.sequence_length", self.sequence_length as u64, 2);
        check_training_entries(&self.train, problems);
        check_entries("data.valid", &self.valid, problems);
        rules::not_empty(problems, "data.cache", &self.cache.to_string_lossy(), "data/cache");
        if let Some(tokenizer) = &self.tokenizer {
            let example = "data/tiny/tokenizer/tokenizer.json";
            rules::not_empty(problems, "data.tokenizer", &tokenizer.to_string_lossy(), example);
        }
    }
}

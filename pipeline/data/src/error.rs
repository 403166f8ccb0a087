//! What can be wrong with data, a tokenizer or a template.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why data, a tokenizer or a template was refused.
///
/// Rows count from 1; in JSONL a row is a line.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// Nothing lies at the path.
    #[error("data path `{path}` does not exist; hint: it is relative to the working directory")]
    PathMissing {
        /// As configured.
        path: String,
    },
    /// A glob or a directory without data files.
    #[error(
        "data path `{path}` matches no file, must match at least one `.parquet`, `.jsonl` or `.txt` file; hint: {hint}"
    )]
    NoMatch {
        /// As configured.
        path: String,
        /// What to try.
        hint: &'static str,
    },
    /// A glob that is not one.
    #[error(
        "data path `{path}` is not a valid glob: {reason}; \
         hint: `*` matches within a directory, `**` across directories"
    )]
    BadGlob {
        /// As configured.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of another kind.
    #[error(
        "data file `{}` has extension `{extension}`, must be `.parquet`, `.jsonl` or `.txt`; \
         hint: convert it or name other files",
        file.display()
    )]
    UnknownExtension {
        /// The file.
        file: PathBuf,
        /// Its extension, possibly empty.
        extension: String,
    },
    /// The file system says no.
    #[error("cannot {action} `{}`: {source}; hint: {}", path.display(), io_hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A `.parquet` file that is none, or is damaged.
    #[error(
        "`{}` is not a readable parquet file: {reason}; \
         hint: write it again, or give it the extension of its format",
        file.display()
    )]
    NotParquet {
        /// The file.
        file: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// A file without a row.
    #[error(
        "data file `{}` is empty (`0` rows), must hold at least one row; \
         hint: remove it or write it again",
        file.display()
    )]
    NoRows {
        /// The file.
        file: PathBuf,
    },
    /// An entry whose rows are all null or empty.
    #[error(
        "data path `{path}` has no text: `{skipped_null}` null and `{skipped_empty}` empty rows were skipped; \
         hint: check `column`"
    )]
    NoText {
        /// As configured.
        path: String,
        /// Rows without a value.
        skipped_null: u64,
        /// Rows with an empty value.
        skipped_empty: u64,
    },
    /// No column of that name.
    #[error(
        "`{}` has no column `{column}`, the columns are {present}; \
         hint: set `{key}` to one of them",
        file.display()
    )]
    MissingColumn {
        /// The file.
        file: PathBuf,
        /// What was asked for.
        column: String,
        /// Those that are there, quoted.
        present: String,
        /// The config key that names it.
        key: &'static str,
    },
    /// A JSON object without that key.
    #[error(
        "`{}` row `{row}` has no key `{column}`, the keys are {present}; \
         hint: set `{key}` to one of them",
        file.display()
    )]
    MissingKey {
        /// The file.
        file: PathBuf,
        /// The line.
        row: u64,
        /// What was asked for.
        column: String,
        /// Those that are there, quoted.
        present: String,
        /// The config key that names it.
        key: &'static str,
    },
    /// A column that holds something else.
    #[error(
        "`{}` column `{column}` has type `{found}`, must be {expected}; \
         hint: set `{key}` to another column, or convert it",
        file.display()
    )]
    ColumnType {
        /// The file.
        file: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// The type that is read.
        expected: &'static str,
        /// The config key that names it.
        key: &'static str,
    },
    /// A JSON value of another type.
    #[error(
        "`{}` row `{row}`: `{column}` is `{found}`, must be {expected}; \
         hint: correct the row, or set `column` to another key",
        file.display()
    )]
    ValueType {
        /// The file.
        file: PathBuf,
        /// The line.
        row: u64,
        /// The key.
        column: String,
        /// The value, shortened.
        found: String,
        /// The type that is read.
        expected: &'static str,
    },
    /// Bytes that are not text.
    #[error(
        "`{}` row `{row}` is not valid UTF-8 at byte `{byte}` of the row; \
         hint: convert the file to UTF-8, for example with iconv",
        file.display()
    )]
    InvalidUtf8 {
        /// The file.
        file: PathBuf,
        /// The line.
        row: u64,
        /// Offset of the first wrong byte, from 0.
        byte: usize,
    },
    /// A line that is not one JSON object.
    #[error("`{}` row `{row}` is not a JSON object: {reason}; hint: JSONL holds one object a line", file.display())]
    MalformedJson {
        /// The file.
        file: PathBuf,
        /// The line.
        row: u64,
        /// What the parser says.
        reason: String,
    },
    /// Conversations asked of a format that has none.
    #[error(
        "`{}` holds text, must be `.parquet` or `.jsonl` for kind = `chats`; \
         hint: set kind to `documents`",
        file.display()
    )]
    NoChatsInText {
        /// The file.
        file: PathBuf,
    },
    /// A role that is none of ours.
    #[error(
        "`{}` row `{row}` has role `{role}`, must be `system`, `user` or `assistant`; \
         hint: rename or remove the turn",
        file.display()
    )]
    UnknownRole {
        /// The file.
        file: PathBuf,
        /// The row.
        row: u64,
        /// The role found.
        role: String,
    },
    /// A conversation in which the model says nothing.
    #[error(
        "`{}` row `{row}` has no turn of role `assistant` in `{turns}` turns, so nothing to learn; \
         hint: remove the row",
        file.display()
    )]
    NoAssistantTurn {
        /// The file.
        file: PathBuf,
        /// The row.
        row: u64,
        /// Turns that it has.
        turns: usize,
    },
    /// A tokenizer that does not load.
    #[error(
        "`{}` is not a readable tokenizer: {reason}; \
         hint: give a `tokenizer.json` or the directory that holds one",
        path.display()
    )]
    BadTokenizer {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// A tokenizer that does not say how a text begins or ends.
    #[error(
        "tokenizer `{}` has no {what} token: neither a token `<|endoftext|>` nor `{key}` in tokenizer_config.json; \
         hint: put a tokenizer_config.json with `{key}` beside it",
        path.display()
    )]
    NoBoundaryToken {
        /// The tokenizer.
        path: PathBuf,
        /// Which one.
        what: &'static str,
        /// The key of tokenizer_config.json that would name it.
        key: &'static str,
    },
    /// A vocabulary that cannot be reached.
    #[error(
        "tokenizer.vocab_size is `{asked}`, must be at least `{least}` (256 bytes and the special tokens); \
         hint: use `{least}` or more"
    )]
    VocabularyTooSmall {
        /// As configured.
        asked: usize,
        /// The smallest.
        least: usize,
    },
    /// A corpus with too few repeated pairs.
    #[error(
        "tokenizer.vocab_size is `{asked}`, the corpus fills only `{reached}`; \
         hint: set it to `{reached}` or less, or train on more text"
    )]
    CorpusTooSmall {
        /// As configured.
        asked: usize,
        /// Entries that could be made.
        reached: usize,
    },
    /// A text that the tokenizer cannot encode.
    #[error("tokenizer cannot encode a text: {reason}; hint: use a byte-level tokenizer, which encodes everything")]
    Encode {
        /// What the tokenizer says.
        reason: String,
    },
    /// Two tokenizers where one is needed.
    #[error(
        "the tokenizers differ: {difference}; \
         hint: a student needs its teacher's tokenizer, a model that is trained on its own"
    )]
    TokenizersDiffer {
        /// Which tokens.
        difference: String,
    },
    /// A tokenizer whose tokens cannot be told by their text.
    #[error(
        "tokenizer `{}` has {found}, must be a byte-level BPE to be restricted; hint: train a tokenizer of your own, with \
         tokenizer.kind = `train`",
        path.display()
    )]
    NotByteLevel {
        /// The tokenizer.
        path: PathBuf,
        /// What does not fit.
        found: String,
    },
    /// A tokenizer that is neither another one nor made from it.
    #[error(
        "the tokenizers differ, and it is not the other one restricted to some of its tokens: {difference}; hint: use the \
         teacher's tokenizer, or make one from it with `prepare`: tokenizer.kind = `restrict`, tokenizer.from = the teacher"
    )]
    NotARestriction {
        /// The first difference.
        difference: String,
    },
    /// No chat template where a conversation has to be rendered.
    #[error(
        "tokenizer `{}` has no chat template; \
         hint: put a chat_template.jinja beside its tokenizer.json",
        path.display()
    )]
    NoTemplate {
        /// The tokenizer.
        path: PathBuf,
    },
    /// A template that does not compile or run.
    #[error("the chat template fails: {reason}; hint: it must be Jinja as transformers renders it")]
    Template {
        /// What the engine says.
        reason: String,
    },
    /// A template that rewrites earlier turns.
    #[error(
        "the chat template renders turn `{turn}` differently once later turns follow, \
         so the assistant's tokens cannot be told; \
         hint: use a template in which the rendering of a conversation begins with the rendering of its first turns"
    )]
    TemplateNotPrefix {
        /// The turn, from 1.
        turn: usize,
    },
    /// A template after whose turns a model would not stop.
    #[error(
        "the chat template ends the assistant's turn `{turn}` without the end-of-turn token `{token}`, \
         so the model would never learn to stop; \
         hint: use a template that closes each turn within the turn"
    )]
    NoEndOfTurn {
        /// The turn, from 1.
        turn: usize,
        /// The token looked for.
        token: String,
    },
    /// Shares that cannot be met.
    #[error("data weight of `{path}` is `{weight}`, must {rule}; hint: {hint}")]
    Weight {
        /// As configured.
        path: String,
        /// As configured.
        weight: f64,
        /// What it must be.
        rule: &'static str,
        /// What to try.
        hint: &'static str,
    },
    /// A length that makes no rows.
    #[error("data.sequence_length is `{value}`, must be from 1 to {}; hint: 256 to 4096 is usual", u32::MAX)]
    SequenceLength {
        /// As configured.
        value: usize,
    },
    /// A config section without an entry.
    #[error("there is no data entry, must be at least one; hint: add a [[data.train]] section with a path")]
    NoEntries,
    /// A stage without any target.
    #[error("data path `{path}` has no target token; hint: the assistant's turns must have text")]
    NoTargets {
        /// As configured.
        path: String,
    },
}

impl DataError {
    /// Wraps the system's answer; for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> DataError {
        let path = path.to_path_buf();
        move |source| DataError::Io { action, path, source }
    }
}

fn io_hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull => "free space, or set data.cache to another device",
        std::io::ErrorKind::PermissionDenied => "check the permissions",
        _ => "check that the path is right and the device is there",
    }
}

/// `` `a`, `b` `` for messages.
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// At most 60 characters of a value, for messages.
pub(crate) fn shortened(value: &str) -> String {
    let mut short: String = value.chars().take(60).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_full_device_says_where_else_to_write() {
        let error = DataError::io("write", Path::new("cache/x.tmp"))(Error::from(ErrorKind::StorageFull));
        assert!(error.to_string().starts_with("cannot write `cache/x.tmp`: "), "{error}");
        assert!(error.to_string().ends_with("; hint: free space, or set data.cache to another device"), "{error}");
    }
}

//! What is wrong with a config: one [`Problem`] a rule that is broken, all of them in [`ConfigErrors`].

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

/// A key whose value breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    key: String,
    /// The other keys that the rule looks at.
    reads: Vec<String>,
    message: String,
    hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, value: impl Display, rule: impl Display) -> Self {
        Self::worded(key, format!("is `{}`, {rule}", printable(&value.to_string())))
    }

    pub(crate) fn missing(key: impl Into<String>, rule: impl Display) -> Self {
        Self::worded(key, format!("is missing, {rule}"))
    }

    /// A problem whose sentence goes on with `message` after the key.
    pub(crate) fn worded(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), reads: Vec::new(), message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names another key that the rule looks at: were that one unreadable, this problem would be noise.
    pub(crate) fn reads(mut self, key: impl Into<String>) -> Self {
        self.reads.push(key.into());
        self
    }

    /// The key to change, from the top of the file, such as `train.max_steps` or `data.train.0.path`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the rule looks at `broken` or at something in it.
    pub(crate) fn depends_on(&self, broken: &str) -> bool {
        std::iter::once(&self.key).chain(&self.reads).any(|key| is_within(key, broken))
    }
}

/// The text in one line: a value from the file may hold line breaks and escape sequences of terminals.
pub(crate) fn printable(text: &str) -> String {
    let escaped =
        |letter: char| if letter.is_control() { letter.escape_default().collect() } else { letter.to_string() };
    text.chars().map(escaped).collect()
}

/// Whether `key` is `section` or lies in it.
pub(crate) fn is_within(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", printable(&self.key), self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file, on a line counted from 1; no line for what is not there.
    File {
        /// As it was given.
        path: PathBuf,
        /// Line of the key, or of the header of its section.
        line: Option<usize>,
    },
    /// In an override: its text.
    Set(String),
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Set(text) => write!(f, "--set {}", printable(text)),
        }
    }
}

/// One reason why a config is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "config `{}` cannot be read: {source}; hint: give a file with --config, such as configs/tiny/pretrain.toml",
        path.display()
    )]
    Read {
        /// As it was given.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: not TOML: {message}; hint: a line is `key = value`, a section is `[name]`, text is in quotes")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// An override cannot be applied.
    #[error("--set {text}: {rule}; hint: {hint}")]
    Override {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        rule: String,
        /// The way out.
        hint: String,
    },
    /// A key is unknown, missing, of the wrong type or out of range.
    #[error("{origin}: {problem}")]
    Key {
        /// Where.
        origin: Origin,
        /// What.
        problem: Problem,
    },
}

/// Everything that is wrong with a config: never empty, in the order of the file, overrides last.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(crate) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(position);
        Self(errors)
    }

    /// One an entry.
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

fn position(error: &ConfigError) -> (bool, usize) {
    match error {
        ConfigError::Key { origin, .. } | ConfigError::Syntax { origin, .. } => match origin {
            Origin::File { line, .. } => (false, line.unwrap_or(0)),
            Origin::Set(_) => (true, 0),
        },
        ConfigError::Read { .. } => (false, 0),
        ConfigError::Override { .. } => (true, 0),
    }
}

impl Display for ConfigErrors {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "{only}");
        }
        write!(f, "{} problems in the config", self.0.len())?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

//! The cross-entropy twin of a distilled student.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a twin that is trained by cross-entropy alone has in common with the student, besides weights, data, order and schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The steps.
    Tokens,
    /// The multiplications: it trains for the steps that the teacher's forward passes would have paid for, besides.
    Compute,
}

impl Control {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Tokens, Self::Compute];

    /// The twin's run directory, beside the student's.
    pub fn directory(self, student: &Path) -> PathBuf {
        let mut name = student.file_name().unwrap_or_default().to_owned();
        name.push(self.suffix());
        student.with_file_name(name)
    }

    /// The student's run directory, of a twin's.
    pub fn student(self, twin: &Path) -> Option<PathBuf> {
        let name = twin.file_name()?.to_str()?.strip_suffix(self.suffix())?;
        Some(twin.with_file_name(name))
    }

    /// In a report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tokens => "cross-entropy, equal tokens",
            Self::Compute => "cross-entropy, equal compute",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Tokens => "-ce",
            Self::Compute => "-ce-compute",
        }
    }
}

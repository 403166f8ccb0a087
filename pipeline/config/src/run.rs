//! `[run]`: the name and the seed.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// `[run]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunSection {
    /// Names the run: its directory is `checkpoints/<name>/<stage's directory>`.
    pub name: String,
    /// Everything random is a function of it.
    #[serde(default)]
    pub seed: u64,
}

impl RunSection {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        let name = &self.name;
        if name.is_empty() || name == "." || name.contains("..") || name.contains(['/', '\\']) {
            problems.push(
                Problem::new("run.name", name, "must be one part of a path: not empty, without `/`, `\\` and `..`")
                    .hint("the run is written to checkpoints/<run.name>; use a name such as `tiny`"),
            );
        } else if name.chars().any(char::is_control) {
            problems.push(
                Problem::new("run.name", name, "must not hold control characters")
                    .hint("use letters, digits, `-` and `_`"),
            );
        }
        // TOML's integers end there (TOML 1.1, "Integer"), and the run writes its config as TOML.
        if i64::try_from(self.seed).is_err() {
            problems.push(
                Problem::new("run.seed", self.seed, format!("must be at most `{}`", i64::MAX))
                    .hint("use a smaller one"),
            );
        }
    }
}

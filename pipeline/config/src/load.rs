//! Reads a stage's TOML, and writes it.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Value;

use crate::conform::{Findings, conform};
use crate::document::Document;
use crate::overrides;
use crate::problem::{ConfigError, ConfigErrors, Problem};
use crate::reader::{probe, read};
use crate::schema::Shape;
use crate::training::{TrainingConfig, TrainingStage};
use crate::weights::DistillSection;

/// A config whose rules are the same wherever it is used.
pub trait StageConfig: DeserializeOwned + Serialize {
    /// Every rule that the values break.
    fn problems(&self) -> Vec<Problem>;
}

/// Reads the config at `path`, applies `overrides`, checks everything.
///
/// An override is `key.path=value`: the key from the top of the file, with indices of lists counted from 0 (the one
/// after the last adds an entry), and a TOML value, or else plain text. Without a value it takes the key out, so that its
/// default counts.
///
/// # Errors
/// Everything that is wrong with the config at once: a key that is unknown, missing, of the wrong type or out of range,
/// from the file or an override. A file that cannot be read or parsed is reported alone.
pub fn load<C: StageConfig>(path: &Path, overrides: &[String]) -> Result<C, ConfigErrors> {
    parse(path, &read_text(path)?, overrides)
}

/// Reads the config of a stage that trains, as [`load`] does. `distill` gets its `[distill]` when the file has none.
///
/// # Errors
/// As [`load`], and a `[teacher]` that `stage` lacks or has no use for.
pub fn load_training(stage: TrainingStage, path: &Path, overrides: &[String]) -> Result<TrainingConfig, ConfigErrors> {
    parse_training(stage, path, &read_text(path)?, overrides)
}

/// [`load`] of a file's text.
pub(crate) fn parse<C: StageConfig>(path: &Path, text: &str, overrides: &[String]) -> Result<C, ConfigErrors> {
    parse_checked(path, text, overrides, C::problems)
}

/// [`load_training`] of a file's text.
pub(crate) fn parse_training(
    stage: TrainingStage,
    path: &Path,
    text: &str,
    overrides: &[String],
) -> Result<TrainingConfig, ConfigErrors> {
    let problems = |config: &TrainingConfig| config.problems(stage);
    let mut config = parse_checked(path, text, overrides, problems)?;
    if stage == TrainingStage::Distill {
        config.distill.get_or_insert_with(DistillSection::default);
    }
    Ok(config)
}

/// The config as TOML. Loading it again gives the same config.
///
/// # Errors
/// A path that is not UTF-8, which no loaded config holds.
pub fn to_toml<C: Serialize>(config: &C) -> Result<String, toml::ser::Error> {
    toml::to_string(config)
}

fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigErrors::new(vec![ConfigError::Read { path: path.into(), source }]))
}

fn parse_checked<C: DeserializeOwned>(
    path: &Path,
    text: &str,
    overrides: &[String],
    problems: impl FnOnce(&C) -> Vec<Problem>,
) -> Result<C, ConfigErrors> {
    let mut document = Document::parse(path, text).map_err(ConfigErrors::new)?;
    let mut errors = overrides::apply(&mut document, overrides);
    let mut findings = conform(&mut document, &Shape::of(probe::<C>), probe::<C>);
    let config = check(&document, &mut findings, problems);
    errors.extend(findings.problems.into_iter().map(|problem| {
        let origin = document.origin(problem.key());
        ConfigError::Key { origin, problem }
    }));
    match config {
        Some(config) if errors.is_empty() => Ok(config),
        _ => Err(ConfigErrors::new(errors)),
    }
}

/// Reads the mended document, and adds the rules that it breaks and that do not follow from what was mended.
fn check<C: DeserializeOwned>(
    document: &Document,
    findings: &mut Findings,
    problems: impl FnOnce(&C) -> Vec<Problem>,
) -> Option<C> {
    match read::<C>(&Value::Table(document.table.clone())) {
        Ok(config) => {
            let problems: Vec<_> =
                problems(&config).into_iter().filter(|problem| findings.leaves_sense_in(problem)).collect();
            findings.problems.extend(problems);
            Some(config)
        }
        Err(refusal) => {
            let problem = Problem::worded("the config", format!("cannot be read: {}", refusal.reason));
            findings.problems.push(problem.hint("compare it with configs/tiny"));
            None
        }
    }
}

//! Tests through the public functions, and what they share.

mod overrides;
mod refusals;
mod shape;
mod shipped;

use std::path::Path;

use crate::load::{parse, parse_training};
use crate::{ConfigErrors, ExportConfig, PrepareConfig, TrainingConfig, TrainingStage, load, load_training, to_toml};

/// Any stage's config, for comparisons.
#[derive(Debug, PartialEq)]
enum Loaded {
    Prepare(PrepareConfig),
    Training(Box<TrainingConfig>),
    Export(ExportConfig),
}

impl Loaded {
    fn to_toml(&self) -> String {
        match self {
            Self::Prepare(config) => to_toml(config),
            Self::Training(config) => to_toml(config),
            Self::Export(config) => to_toml(config),
        }
        .unwrap()
    }

    fn training(self) -> TrainingConfig {
        match self {
            Self::Training(config) => *config,
            other => panic!("{other:?}"),
        }
    }
}

/// Loads the file at `path` as the config of `stage`.
fn load_as(stage: &str, path: &Path, overrides: &[String]) -> Result<Loaded, ConfigErrors> {
    let training = |stage| load_training(stage, path, overrides).map(|config| Loaded::Training(Box::new(config)));
    match training_stage(stage) {
        Some(stage) => training(stage),
        None if stage == "prepare" => load(path, overrides).map(Loaded::Prepare),
        None => load(path, overrides).map(Loaded::Export),
    }
}

/// As [`load_as`], without a file.
fn load_text(stage: &str, text: &str) -> Result<Loaded, ConfigErrors> {
    let path = Path::new("some.toml");
    let training = |stage| parse_training(stage, path, text, &[]).map(|config| Loaded::Training(Box::new(config)));
    match training_stage(stage) {
        Some(stage) => training(stage),
        None if stage == "prepare" => parse(path, text, &[]).map(Loaded::Prepare),
        None => parse(path, text, &[]).map(Loaded::Export),
    }
}

fn training_stage(name: &str) -> Option<TrainingStage> {
    [TrainingStage::Pretrain, TrainingStage::Sft, TrainingStage::Distill].into_iter().find(|stage| stage.name() == name)
}

/// The numbers of the tiny chain that messages repeat: they are tuned, the tests are not.
const PINNED: [&str; 4] =
    ["data.sequence_length=128", "train.tokens_per_step=4096", "train.max_steps=600", "train.eval_every=100"];

/// Loads the shipped config of the tiny chain with overrides.
fn tiny(stage: &str, overrides: &[&str]) -> Result<Loaded, ConfigErrors> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../configs/tiny/{stage}.toml"));
    let pinned = PINNED.iter().filter(|_| training_stage(stage).is_some());
    load_as(stage, &path, &pinned.chain(overrides).map(|text| text.to_string()).collect::<Vec<_>>())
}

/// The messages about overrides of the tiny chain's config, each without its `--set ...: `.
fn refusals(stage: &str, overrides: &[&str]) -> Vec<String> {
    let errors = tiny(stage, overrides).map(|config| config.to_toml()).unwrap_err();
    let text = |error: &crate::ConfigError| match error {
        crate::ConfigError::Key { problem, .. } => problem.to_string(),
        other => other.to_string(),
    };
    errors.errors().iter().map(text).collect()
}

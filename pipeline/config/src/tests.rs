//! Tests through the public functions, and what they share.

mod overrides;
mod refusals;
mod shape;
mod shipped;

use std::fs;
use std::path::Path;

use tempfile::NamedTempFile;

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

/// Loads `path` as the stage whose name is `stage`.
fn load_as(stage: &str, path: &Path, overrides: &[String]) -> Result<Loaded, ConfigErrors> {
    let training = |stage| load_training(stage, path, overrides).map(|config| Loaded::Training(Box::new(config)));
    match stage {
        "prepare" => load(path, overrides).map(Loaded::Prepare),
        "pretrain" => training(TrainingStage::Pretrain),
        "sft" => training(TrainingStage::Sft),
        "distill" => training(TrainingStage::Distill),
        "export-model" => load(path, overrides).map(Loaded::Export),
        other => panic!("no stage is named {other}"),
    }
}

fn load_text(stage: &str, text: &str) -> Result<Loaded, ConfigErrors> {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    load_as(stage, file.path(), &[])
}

/// Loads the shipped config of the tiny chain with overrides.
fn tiny(stage: &str, overrides: &[&str]) -> Result<Loaded, ConfigErrors> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../configs/tiny/{stage}.toml"));
    load_as(stage, &path, &overrides.iter().map(|text| text.to_string()).collect::<Vec<_>>())
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

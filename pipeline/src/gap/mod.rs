//! The gap report of `distill`: teacher, student before and after, and its cross-entropy twins, on held-out data.
//!
//! ```text
//! before the first step   student before ──▶ before/
//! after the last step     teacher, student, complete twins beside it, student before ──▶ gap.json, gap.md, stderr
//! ```

mod arm;
mod cost;
mod text;

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::Device;
use limbeck_checkpoint::{content_hash, remove, resolve, write_atomically};
use limbeck_config::{TrainingConfig, to_toml};
use limbeck_data::{Mixture, Tokenizer};
use limbeck_model::Transformer;
use limbeck_train::{Comparison, compare, say, write_model};
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::failure::Failure;
use crate::source::Source;
use crate::{source, teacher, tokenised};

pub use arm::{Arm, Twin};
pub use cost::Cost;
pub(crate) use cost::{student_flops, teacher_flops};

/// The report's file in a run directory.
pub const GAP_FILE: &str = "gap.json";
/// The student before its first step, until a report has its scores.
const BEFORE_DIRECTORY: &str = "before";

/// What `gap.json` holds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Gap {
    /// BLAKE3 of the resolved config without its seed: runs that differ in nothing else have the same.
    pub setting: String,
    /// The run's seed.
    pub seed: u64,
    /// Paths of the held-out data.
    pub data: Vec<String>,
    /// The teacher; `None` where its logits alone are at hand.
    pub teacher: Option<Arm>,
    /// The student before its first step.
    pub before: Option<Comparison>,
    /// The student.
    pub student: Arm,
    /// The complete ones of its cross-entropy twins.
    pub twins: Vec<Twin>,
}

impl Gap {
    /// The twin of this kind, if it is complete.
    pub fn twin(&self, control: Control) -> Option<&Twin> {
        self.twins.iter().find(|twin| twin.control == control)
    }

    /// How much lower the student's loss is than a twin's, in nats a token.
    pub fn better_by(&self, twin: &Twin) -> f64 {
        twin.arm.comparison.loss_nats - self.student.comparison.loss_nats
    }

    /// How much of the way from a twin's loss to the teacher's the student has gone: 1 is all of it. `None` where the twin is
    /// no worse than the teacher.
    pub fn share_closed(&self, twin: &Twin) -> Option<f64> {
        let whole = twin.arm.comparison.loss_nats - self.teacher.as_ref()?.comparison.loss_nats;
        (whole > 0.0).then(|| self.better_by(twin) / whole)
    }
}

/// Held-out data, and the teacher that models are compared with on it.
struct Judge<'a> {
    config: &'a TrainingConfig,
    valid: Mixture,
    teacher: Option<Source>,
}

impl<'a> Judge<'a> {
    /// `None` without held-out data.
    fn open(config: &'a TrainingConfig, tokenizer: &Tokenizer, device: &Device) -> Result<Option<Self>, Failure> {
        if config.data.valid.is_empty() {
            return Ok(None);
        }
        let valid = tokenised::open(config, &config.data.valid, tokenizer)?;
        let from = config.teacher.as_ref().and_then(|section| section.from.as_deref());
        let open = |from| teacher::model(config, from, tokenizer, device)?.gathered(config, &valid);
        let teacher = from.map(open).transpose()?;
        Ok(Some(Self { config, valid, teacher }))
    }

    /// Each of `models`, then the teacher, if there is one.
    fn compare(&self, models: &[&Transformer]) -> Vec<Comparison> {
        let teacher = self.teacher.as_ref().map(|teacher| &teacher.model);
        compare(models, teacher, &self.valid, self.config.rows_per_step())
    }
}

/// Keeps the student as it is before its first step for the report, which so asks the teacher once.
///
/// # Errors
/// If the teacher or the data cannot be read, which the report will want, or the directory cannot be written to.
pub fn before(
    config: &TrainingConfig,
    model: &Transformer,
    tokenizer: &Tokenizer,
    directory: &Path,
    device: &Device,
) -> Result<(), Failure> {
    if Judge::open(config, tokenizer, device)?.is_none() {
        return Ok(());
    }
    let kept = directory.join(BEFORE_DIRECTORY);
    let keep = || -> anyhow::Result<()> {
        std::fs::create_dir_all(&kept)?;
        Ok(write_model(model, tokenizer, &kept)?)
    };
    keep().with_context(|| format!("cannot write `{}`", kept.display())).map_err(Failure::usage)
}

/// Writes the report of the complete run in `directory` beside its checkpoints, unless the one that is there is of the same
/// checkpoints, and shows it on stderr. Without held-out data there is none.
///
/// # Errors
/// If a model or the data cannot be read, or the directory cannot be written to.
pub fn report(config: &TrainingConfig, directory: &Path, device: &Device) -> Result<(), Failure> {
    let twins: Vec<(Control, PathBuf)> = Control::ALL
        .into_iter()
        .map(|control| (control, control.directory(directory)))
        .filter(|(_, twin)| is_complete(twin))
        .collect();
    let known: Option<Gap> = read(&directory.join(GAP_FILE));
    let kept = directory.join(BEFORE_DIRECTORY);
    if known.as_ref().is_some_and(|known| known.is_of(directory, &twins)) {
        return remove(&kept).map_err(Failure::run);
    }
    let mut models = vec![source::open("gap report", directory, device)?];
    let Some(judge) = Judge::open(config, &models[0].tokenizer, device)? else {
        say!("distill: no gap report, for data.valid is empty");
        return Ok(());
    };
    for (_, twin) in &twins {
        models.push(source::open("gap report", twin, device)?);
    }
    let start = if kept.is_dir() { Some(source::open("gap report", &kept, device)?) } else { None };
    let compared = judge.compare(&models.iter().chain(&start).map(|source| &source.model).collect::<Vec<_>>());
    let before = start.as_ref().and_then(|_| compared.get(models.len()).copied());
    let mut arms = Vec::new();
    for (index, (source, comparison)) in models.iter().zip(&compared).enumerate() {
        let run = source.path.parent().unwrap_or(directory);
        let teacher = judge.teacher.as_ref().filter(|_| index == 0);
        let cost = Cost::of_run(config, run, source, teacher)?;
        arms.push(Arm::new(source, *comparison, cost)?);
    }
    let student = arms.remove(0);
    let teacher = judge.teacher.as_ref().zip(compared.last());
    let gap = Gap {
        setting: setting(config)?,
        seed: config.seed(),
        data: config.data.valid.iter().map(|entry| entry.path.clone()).collect(),
        teacher: teacher.map(|(source, comparison)| Arm::new(source, *comparison, Cost::default())).transpose()?,
        before: before.or_else(|| known.and_then(|known| known.before)),
        student,
        twins: twins.into_iter().zip(arms).map(|((control, _), arm)| Twin { control, arm }).collect(),
    };
    write_atomically(&directory.join(GAP_FILE), json(&gap)?).map_err(Failure::run)?;
    let text = text::markdown(&gap, &siblings(&gap, directory));
    say!("\n{text}");
    write_atomically(&directory.join("gap.md"), text).map_err(Failure::run)?;
    remove(&kept).map_err(Failure::run)
}

impl Gap {
    /// Whether it is of the checkpoints that are there now.
    fn is_of(&self, directory: &Path, twins: &[(Control, PathBuf)]) -> bool {
        let newest = |directory: &Path| resolve(directory).map(|resolved| resolved.path.display().to_string()).ok();
        Some(&self.student.path) == newest(directory).as_ref()
            && self.twins.len() == twins.len()
            && self.twins.iter().zip(twins).all(|(known, (control, twin))| {
                known.control == *control && Some(&known.arm.path) == newest(twin).as_ref()
            })
    }
}

/// The reports of the same setting with other seeds, in the directories beside this one.
fn siblings(gap: &Gap, directory: &Path) -> Vec<Gap> {
    let parent = directory.parent().unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<Gap> = entries.filter_map(|entry| read(&entry.path().join(GAP_FILE))).collect();
    found.retain(|other| other.setting == gap.setting && other.seed != gap.seed);
    found.sort_by_key(|other| other.seed);
    found
}

fn setting(config: &TrainingConfig) -> Result<String, Failure> {
    let mut config = config.clone();
    config.run.seed = 0;
    Ok(content_hash(to_toml(&config).map_err(Failure::usage)?.as_bytes()))
}

/// Whether the newest checkpoint of a run is its last.
pub(crate) fn is_complete(directory: &Path) -> bool {
    resolve(directory).is_ok_and(|resolved| resolved.manifest.is_some_and(|manifest| manifest.complete))
}

/// `None` where the file is not there or is not ours.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(value).context("the report").map_err(Failure::run)? + "\n")
}

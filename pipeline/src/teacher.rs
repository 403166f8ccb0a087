//! The teacher of `[teacher]`: a model, or its logits on disk.

use std::path::Path;

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use limbeck_checkpoint::Parent;
use limbeck_config::{DistillSection, TrainingConfig};
use limbeck_data::{Mixture, Tokenizer};
use limbeck_logits::{Cache, Expected};
use limbeck_model::{Cut, fingerprint};
use limbeck_train::{KeptMass, Teacher, kept_mass, say};

use crate::device;
use crate::failure::Failure;
use crate::source::{self, Source};

/// The teacher that a student with this tokenizer learns from on this data, and what its checkpoints say of it.
///
/// # Errors
/// A model or a cache that cannot be opened; another tokenizer, shorter sequences; a cache that is of something else, or
/// that cannot give the loss.
pub fn open(
    config: &TrainingConfig,
    distill: &DistillSection,
    tokenizer: &Tokenizer,
    data: &Mixture,
    device: &Device,
) -> Result<(Teacher, Parent), Failure> {
    let section = config.teacher.clone().unwrap_or_default();
    let model = section.from.map(|from| model(config, &from, tokenizer, device)).transpose()?;
    let model = model.map(|model| model.gathered(config, data)).transpose()?;
    match (section.logits, model) {
        (Some(directory), model) => cached(&directory, model, distill, tokenizer, data),
        (None, Some(source)) => Ok((Teacher::Online(Box::new(source.model)), source.parent)),
        // Loading the config refuses it first.
        (None, None) => Err(Failure::usage(anyhow!("`distill` needs [teacher]; hint: give teacher.from"))),
    }
}

/// A teacher with its own vocabulary.
pub struct WholeTeacher {
    source: Source,
    /// Its ids of the student's tokens, where the student has some of them alone.
    rows: Option<Vec<u32>>,
}

/// The model of `teacher.from`, in the precision of the training, for a student with this tokenizer: the teacher's own, or
/// that restricted to some of its tokens.
///
/// # Errors
/// As [`open`].
pub fn model(
    config: &TrainingConfig,
    from: &Path,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<WholeTeacher, Failure> {
    let source = source::open("teacher.from", from, device)?;
    source.check_length("teacher.from", config.data.sequence_length)?;
    let rows = tokenizer
        .rows_in(&source.tokenizer)
        .context("data.tokenizer does not go with teacher.from")
        .map_err(Failure::usage)?;
    // Resolved by the time that a teacher is opened.
    let precision = config.train.precision.map_or(limbeck_kernels::Precision::Fp32, device::of_products);
    Ok(WholeTeacher { source: Source { model: source.model.with_precision(precision), ..source }, rows })
}

impl WholeTeacher {
    /// The teacher over the student's tokens, in the order of the student's ids: with their rows of the embedding and of the
    /// output weights alone, so that its distribution is exactly its own given that the next token is one of them. Says on
    /// stderr how much of the mass that is, on the first rows of `data`.
    ///
    /// # Errors
    /// None that a teacher that was opened leads to.
    pub fn gathered(self, config: &TrainingConfig, data: &Mixture) -> Result<Source, Failure> {
        let Self { source, rows } = self;
        let Some(rows) = rows else { return Ok(source) };
        let probe = data.batch(0, config.micro_batch_size());
        let KeptMass { mean, targets } = kept_mass(&source.model, &rows, &probe);
        say!(
            "teacher: {} of its {} tokens are the student's, on which it puts {:.3} % of the mass ({targets} targets); the \
             rest is shared out among them",
            rows.len(),
            source.model.config().vocab_size,
            100.0 * mean
        );
        let cut = Cut::to_tokens(source.model.config(), &rows);
        let model = cut.apply(&source.model, &source.model.device()).map_err(Failure::usage)?;
        Ok(Source { model, ..source })
    }
}

/// The cache of `teacher.logits`; `model` is what it must be of, where it is at hand, and does not run.
fn cached(
    directory: &Path,
    model: Option<Source>,
    distill: &DistillSection,
    tokenizer: &Tokenizer,
    data: &Mixture,
) -> Result<(Teacher, Parent), Failure> {
    let open = || -> anyhow::Result<Cache> {
        let expected = Expected {
            data: data.segments_fingerprint(),
            tokenizer: tokenizer.hash(),
            teacher: model.map(|source| fingerprint(&source.model)),
            sequence_length: data.sequence_length() as u64,
        };
        let cache = Cache::open(directory, &expected)?;
        cache.check_pairing(distill.divergence, distill.temperature)?;
        Ok(cache)
    };
    let cache = open().context("teacher.logits").map_err(Failure::usage)?;
    let parent = Parent { path: directory.display().to_string(), hash: cache.hash() };
    Ok((Teacher::cached(cache), parent))
}

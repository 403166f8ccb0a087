//! The teacher of `[teacher]`: a model, or its logits on disk.

use std::path::Path;

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use limbeck_checkpoint::Parent;
use limbeck_config::{DistillSection, TrainingConfig};
use limbeck_data::{Mixture, Tokenizer};
use limbeck_logits::{Cache, Expected};
use limbeck_model::fingerprint;
use limbeck_train::Teacher;

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
    match (section.logits, model) {
        (Some(directory), model) => cached(&directory, model, distill, tokenizer, data),
        (None, Some(source)) => Ok((Teacher::Online(Box::new(source.model)), source.parent)),
        // Loading the config refuses it first.
        (None, None) => Err(Failure::usage(anyhow!("`distill` needs [teacher]; hint: give teacher.from"))),
    }
}

/// The model of `teacher.from`, in the precision of the training.
///
/// # Errors
/// As [`open`].
pub fn model(config: &TrainingConfig, from: &Path, tokenizer: &Tokenizer, device: &Device) -> Result<Source, Failure> {
    let source = source::open("teacher.from", from, device)?;
    source.check_length("teacher.from", config.data.sequence_length)?;
    tokenizer
        .check_same(&source.tokenizer)
        .context("data.tokenizer is not the tokenizer of teacher.from")
        .map_err(Failure::usage)?;
    // Resolved by the time that a teacher is opened.
    let precision = config.train.precision.map_or(limbeck_kernels::Precision::Fp32, device::of_products);
    Ok(Source { model: source.model.with_precision(precision), ..source })
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
    Ok((Teacher::Cached(Box::new(cache)), parent))
}

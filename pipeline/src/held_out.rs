//! What an exported format loses, on held-out data.

use limbeck_config::ExportConfig;
use limbeck_data::Mixture;
use limbeck_model::Transformer;
use limbeck_train::{Comparison, compare};

use crate::failure::Failure;
use crate::source::Source;
use crate::tokenised;

/// Longest segments where the config says nothing: models from elsewhere take more than is worth the time.
const LONGEST: usize = 2048;

/// Tokens and rows of a forward pass at most.
const TOKENS: usize = 16_384;
const ROWS: usize = 16;

/// The data of `[data]`.
pub struct HeldOut {
    data: Mixture,
    paths: Vec<String>,
}

impl HeldOut {
    /// `None` where the config names none.
    ///
    /// # Errors
    /// If the data cannot be read, or `data.sequence_length` is over the model's longest sequence.
    pub fn open(config: &ExportConfig, source: &Source) -> Result<Option<Self>, Failure> {
        let Some(section) = config.data.as_ref().filter(|section| !section.valid.is_empty()) else { return Ok(None) };
        let longest = source.model.config().max_position_embeddings;
        let length = section.sequence_length.unwrap_or(longest.min(LONGEST));
        source.check_length("export.from", length)?;
        let data =
            Mixture::open(&section.valid, &source.tokenizer, length, config.run.seed, &section.cache, &tokenised::show)
                .map_err(Failure::usage)?;
        tokenised::warn(&data);
        Ok(Some(Self { data, paths: section.valid.iter().map(|entry| entry.path.clone()).collect() }))
    }

    /// Paths of the data.
    pub fn paths(&self) -> Vec<String> {
        self.paths.clone()
    }

    /// What `model` says, with `checkpoint` for its teacher, then what `checkpoint` says. Both compute in 32 bits.
    pub fn compare(&self, model: &Transformer, checkpoint: &Transformer) -> (Comparison, Comparison) {
        let rows = (TOKENS / self.data.sequence_length()).clamp(1, ROWS);
        let compared = compare(&[model], Some(checkpoint), &self.data, rows);
        let of = |index: usize| compared.get(index).copied().unwrap_or_default();
        (of(0), of(1))
    }
}

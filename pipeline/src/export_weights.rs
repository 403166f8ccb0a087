//! The weights of a checkpoint as its exports take them.

use limbeck_config::{EmbeddingGrid, ExportConfig, FakeQuantSection, WeightGrid};
use limbeck_export::{GgufType, Importance, Storage};
use limbeck_model::{NamedTensors, Transformer, fake_quant_recipe, parameters};
use limbeck_train::say;

use crate::failure::Failure;
use crate::importance;
use crate::source::Source;

/// A checkpoint that is exported.
pub struct ExportWeights<'a> {
    /// With the masters, where it was trained on the grid of an export.
    source: &'a Source,
    /// With the weights that it computes with.
    model: Transformer,
    importance: Option<Importance>,
}

impl<'a> ExportWeights<'a> {
    /// Those of `source`, opened with its masters; measures what the columns of its matrices matter, if the config asks for it.
    ///
    /// # Errors
    /// A weight that its grid cannot hold; calibration data that cannot be read.
    pub fn of(source: &'a Source, config: &ExportConfig) -> Result<Self, Failure> {
        // A file says nothing of rounded inputs: what it is opened with has its own.
        let model = source.model.on_grid().map_err(Failure::usage)?.with_fake_quant(None);
        let usable = config.export.formats.iter().any(|format| format.uses_importance());
        if config.export.importance.is_some() && !usable {
            say!("warning: export.importance is for gguf_q4_0 and K-quants, and export.formats has none of them");
        }
        let section = config.export.importance.as_ref().filter(|_| usable);
        let importance = section
            .map(|section| importance::measure(section, &model, &source.tokenizer, config.run.seed))
            .transpose()?;
        Ok(Self { source, model, importance })
    }

    /// What is exported.
    pub fn source(&self) -> &Source {
        self.source
    }

    /// The model that every export is to agree with.
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// The tensors of a file of type `kind`, and how they are stored.
    ///
    /// Trained for this type, they are the masters, stored as in training: so the blocks are those that were trained. For
    /// another type the weights that the model computes with are rounded anew.
    pub fn stored_as(&self, kind: GgufType) -> (NamedTensors, Storage<'_>) {
        match self.source.model.fake_quant().filter(|section| is_trained_for(section, kind)) {
            Some(section) => {
                let trained = fake_quant_recipe(section);
                let mut storage = Storage::from(kind);
                // Left as they were in training, they are stored as in any other file of the type.
                if section.embeddings() != EmbeddingGrid::None {
                    storage.recipe = trained;
                }
                (parameters(&self.source.model), storage)
            }
            None => {
                let storage = Storage { importance: self.importance.as_ref(), ..Storage::from(kind) };
                (parameters(&self.model), storage)
            }
        }
    }

    /// How many matrices of an export that was opened again are exactly those that training computed with. `None` where
    /// training was not for the grid of an export.
    pub fn kept_in(&self, reopened: &Transformer) -> Option<String> {
        let section = self.source.model.fake_quant()?;
        let (trained, found) = (parameters(&self.model), parameters(reopened));
        let matrices: Vec<&String> = trained.keys().filter(|name| trained[*name].shape.len() == 2).collect();
        let kept = matrices.iter().filter(|name| found.get(**name) == Some(&trained[**name])).count();
        let (all, weights) = (matrices.len(), section.weights.name());
        let hint = if kept == all { String::new() } else { format!("; hint: gguf_{weights} is what was trained for") };
        Some(format!("{kept} of {all} matrices are, bit for bit, those of the training (train.fake_quant){hint}"))
    }
}

fn is_trained_for(section: &FakeQuantSection, kind: GgufType) -> bool {
    kind == match section.weights {
        WeightGrid::Q4_0 => GgufType::Q4_0,
        WeightGrid::Q8_0 => GgufType::Q8_0,
    }
}

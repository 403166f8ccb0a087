//! Values of transformers: `tests/reference/README.md` says what they are and how they were made.

use std::path::PathBuf;

use anyhow::Context;
use burn::tensor::Device;
use limbeck_config::{ModelConfig, ModelSection, OptimizerSection};
use limbeck_data::Batch;
use limbeck_model::{HostTensor, NamedTensors, Transformer, load_parameters};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::support::batches::batch;

/// One model with what transformers makes of it.
pub(crate) struct Fixture {
    pub(crate) facts: Facts,
    tensors: NamedTensors,
}

/// The JSON file.
#[derive(Deserialize)]
pub(crate) struct Facts {
    model: ModelSection,
    pub(crate) optimizer: OptimizerSection,
    /// Mean over the targets of the batch.
    pub(crate) loss: f64,
    pub(crate) target_tokens: usize,
    /// Before each of ten steps.
    pub(crate) losses: Vec<f64>,
    pub(crate) grad_norms: Vec<f64>,
    pub(crate) greedy: Greedy,
    pub(crate) bfloat16_differs_by: Distances,
}

/// How far PyTorch's own products of brain floats are from the reference.
#[derive(Deserialize)]
pub(crate) struct Distances {
    /// The largest over the tensors.
    pub(crate) gradient_relative_l2: f64,
    /// Of ten steps.
    pub(crate) adamw_losses_max_abs: f64,
}

/// A continuation by the most probable token.
#[derive(Deserialize)]
pub(crate) struct Greedy {
    pub(crate) prompt: Vec<u32>,
    pub(crate) continuation: Vec<u32>,
}

/// The fixtures: `qwen3`, `llama` and `qwen2`.
pub(crate) fn fixtures() -> anyhow::Result<Vec<Fixture>> {
    ["qwen3", "llama", "qwen2"].into_iter().map(Fixture::open).collect()
}

impl Fixture {
    fn open(architecture: &str) -> anyhow::Result<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference/parity").join(architecture);
        let facts = serde_json::from_slice(&std::fs::read(path.with_extension("json"))?)?;
        let bytes = std::fs::read(path.with_extension("safetensors"))?;
        let mut tensors = NamedTensors::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
            anyhow::ensure!(view.dtype() == Dtype::F32, "{name} is {:?}", view.dtype());
            let word = |word: &[u8]| f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let values = view.data().chunks_exact(4).map(word).collect();
            tensors.insert(name.to_owned(), HostTensor { shape: view.shape().to_vec(), values });
        }
        Ok(Self { facts, tensors })
    }

    /// Of the model, in the words of `config.json`.
    pub(crate) fn config(&self) -> anyhow::Result<ModelConfig> {
        let (vocab_size, length) = (self.facts.model.vocab_size, self.facts.model.max_position_embeddings);
        let (vocab_size, length) = vocab_size.zip(length).context("the fixture names both")?;
        self.facts.model.resolve(vocab_size, length).map_err(|problems| anyhow::anyhow!("{problems:?}"))
    }

    /// The model with the fixture's weights.
    pub(crate) fn model(&self, device: &Device) -> anyhow::Result<Transformer> {
        self.model_with(&self.config()?, self.group("weight"), device)
    }

    /// A model of another shape or with other weights.
    pub(crate) fn model_with(
        &self,
        config: &ModelConfig,
        weights: NamedTensors,
        device: &Device,
    ) -> anyhow::Result<Transformer> {
        Ok(load_parameters(Transformer::zeros(config, device), weights)?)
    }

    pub(crate) fn tensor(&self, name: &str) -> &HostTensor {
        &self.tensors[name]
    }

    /// `<prefix>.<name>` by name.
    pub(crate) fn group(&self, prefix: &str) -> NamedTensors {
        let named = |(key, tensor): (&String, &HostTensor)| {
            Some((key.strip_prefix(prefix)?.strip_prefix('.')?.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(named).collect()
    }

    /// Token ids or positions.
    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.tensor(name).values.iter().map(|value| *value as u32).collect()
    }

    /// The batch of the losses, gradients and steps.
    pub(crate) fn batch(&self) -> Batch {
        let loss_mask = self.tensor("loss_mask").values.iter().map(|value| *value == 1.0).collect();
        Batch { loss_mask, ..batch(self.ids("inputs"), self.ids("targets"), self.tensor("inputs").shape[1]) }
    }
}

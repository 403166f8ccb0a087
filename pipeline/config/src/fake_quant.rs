//! `[train.fake_quant]`: training on the number grid of an export.

use serde::{Deserialize, Serialize};

/// How the matrices of the blocks are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightGrid {
    /// As in `gguf_q4_0`.
    Q4_0,
    /// As in `gguf_q8_0`.
    Q8_0,
}

/// How the output weights are rounded, which are the embedding where they are tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingGrid {
    /// Blocks of 32 with codes of 8 bits.
    Q8_0,
    /// Blocks of 256 with codes of 6 bits.
    Q6K,
    /// Not at all, nor is an embedding that is not tied.
    None,
}

/// How the inputs of the rounded matrices are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationGrid {
    /// Not at all.
    #[default]
    None,
    /// Codes of 8 bits, a scale for every 32: what llama.cpp multiplies Q4_0 and Q8_0 with on a CPU.
    Int8,
}

/// `[train.fake_quant]`: forward and backward pass are of weights that an export can store; the optimizer keeps 32-bit ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FakeQuantSection {
    /// Of the blocks' matrices.
    pub weights: WeightGrid,
    /// Of the output weights; default: that of the export in the type of `weights`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<EmbeddingGrid>,
    /// Of what the matrices read.
    #[serde(default)]
    pub activations: ActivationGrid,
}

impl WeightGrid {
    /// The word in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q8_0 => "q8_0",
        }
    }
}

impl FakeQuantSection {
    /// Of the output weights.
    pub fn embeddings(self) -> EmbeddingGrid {
        self.embeddings.unwrap_or(match self.weights {
            WeightGrid::Q4_0 => EmbeddingGrid::Q6K,
            WeightGrid::Q8_0 => EmbeddingGrid::Q8_0,
        })
    }
}

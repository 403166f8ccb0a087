//! The models that are measured, and the operations that a step of theirs needs.

use clap::ValueEnum;
use limbeck_config::{Architecture, ModelConfig};

/// A model and its batch. All but the smallest take 2,048 tokens a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchModel {
    /// Some thousand parameters, for tests: its speed says nothing.
    #[value(hide = true)]
    Tiny,
    /// 3.4 million parameters, 8 rows of 256 tokens.
    #[value(name = "3m")]
    Million3,
    /// 27.8 million parameters, 4 rows of 512 tokens.
    #[value(name = "28m")]
    Million28,
}

/// What a step computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The model.
    pub config: ModelConfig,
    /// Rows of a step.
    pub rows: usize,
    /// Tokens of a row.
    pub sequence_length: usize,
}

impl BenchModel {
    /// As `--model` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Million3 => "3m",
            Self::Million28 => "28m",
        }
    }

    /// Steps of a measurement of some seconds.
    pub fn default_steps(self) -> usize {
        match self {
            Self::Tiny => 4,
            Self::Million3 => 30,
            Self::Million28 => 8,
        }
    }

    /// The model and its batch.
    pub fn shape(self) -> Shape {
        match self {
            Self::Tiny => Shape {
                rows: 3,
                sequence_length: 22,
                config: ModelConfig {
                    vocab_size: 59,
                    hidden_size: 26,
                    intermediate_size: 46,
                    num_hidden_layers: 2,
                    num_attention_heads: 6,
                    num_key_value_heads: 3,
                    head_dim: 4,
                    ..common(22)
                },
            },
            Self::Million3 => Shape {
                rows: 8,
                sequence_length: 256,
                config: ModelConfig {
                    vocab_size: 4096,
                    hidden_size: 256,
                    intermediate_size: 512,
                    num_hidden_layers: 4,
                    num_attention_heads: 4,
                    num_key_value_heads: 2,
                    ..common(256)
                },
            },
            Self::Million28 => Shape { rows: 4, sequence_length: 512, config: common(512) },
        }
    }
}

/// The largest model, whose parts the others replace.
fn common(max_position_embeddings: usize) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 8192,
        hidden_size: 512,
        intermediate_size: 1408,
        num_hidden_layers: 8,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        max_position_embeddings,
    }
}

impl Shape {
    /// Tokens of a step.
    pub fn tokens(&self) -> usize {
        self.rows * self.sequence_length
    }

    /// Multiplications and additions that the step needs, each counted as one: those forward and twice as many backward, for the
    /// gradients by input and by weight. See [`ModelConfig::forward_flops`].
    pub fn step_flops(&self) -> u64 {
        let pairs = self.rows * self.sequence_length * (self.sequence_length + 1) / 2;
        3 * self.config.forward_flops(self.tokens() as u64, pairs as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_have_their_sizes() {
        let parameters = |model: BenchModel| model.shape().config.parameter_count();
        // Matrices as below, and norms: 4 · (2·256 + 2·64) + 256, 8 · (2·512 + 2·64) + 512.
        assert_eq!(parameters(BenchModel::Million3), 3_407_872 + 2_816);
        assert_eq!(parameters(BenchModel::Million28), 27_787_264 + 9_728);
        for model in [BenchModel::Million3, BenchModel::Million28] {
            assert_eq!(model.shape().tokens(), 2048);
        }
        for model in BenchModel::value_variants() {
            let shape = model.shape();
            assert!(shape.config.validate().is_ok());
            assert_eq!(shape.config.max_position_embeddings, shape.sequence_length);
            assert_eq!(model.to_possible_value().unwrap().get_name(), model.name());
        }
    }

    #[test]
    fn operations_are_those_counted_by_hand() {
        // A block: 2·24·26 + 2·12·26 + 3·26·46 = 5,460. With the output 2·5,460 + 59·26 = 12,454 weights for 66 tokens;
        // 3 · 253 pairs of query and key in 2 blocks of 6·4.
        assert_eq!(BenchModel::Tiny.shape().step_flops(), 6 * 12_454 * 66 + 12 * 2 * 24 * 759);
        // Blocks 4 · 589,824, output 1,048,576; 8 · 32,896 pairs in 4 blocks of 256.
        assert_eq!(BenchModel::Million3.shape().step_flops(), 41_875_931_136 + 3_233_808_384);
        // Blocks 8 · 2,949,120, output 4,194,304; 4 · 131,328 pairs in 8 blocks of 512.
        assert_eq!(BenchModel::Million28.shape().step_flops(), 341_449_900_032 + 25_820_135_424);
    }
}

//! What a model takes on a device, from its shape alone: the formulas that the device card and `plan` share.
//!
//! ```text
//! ModelConfig, ExportFormat ──▶ file, weights       size of every tensor on its grid (`limbeck_export::gguf_size`)
//!              context      ──▶ cache, activations  memory
//!                           ──▶ bytes, FLOP a token traffic ──▶ tokens/s, J a token on a Device
//!                                                           ──▶ Verdict against a Budget
//! ```
//!
//! Weights and cache are exact, and checked against files and against llama.cpp. Activations are its compute buffer to within a
//! quarter. Speeds hold for a decoder that waits for memory, one stream, no speculation; energy is an estimate that says in
//! which order of magnitude it is.

mod budget;
mod device;
mod memory;
mod traffic;

use limbeck_config::{ExportFormat, ModelConfig};
use limbeck_export::{GgufType, StoredSize, gguf_size, mlx_size, safetensors_size};
use limbeck_quant::AffineGrid;

pub use budget::{Budget, BudgetError, Judgement, Verdict};
pub use device::{Device, devices, this_machine};
pub use memory::{CacheType, Memory, activation_bytes, cache_bytes, padded_context};
pub use traffic::{EnergyClass, PJ_PER_FLOP, Speed, Traffic};

/// A shape in one format.
#[derive(Clone, Debug, PartialEq)]
pub struct Footprint {
    /// Of the file.
    pub stored: StoredSize,
    /// At the context.
    pub memory: Memory,
    /// Of a token at the end of the context.
    pub traffic: Traffic,
    /// Tokens that the cache holds.
    pub context: usize,
}

impl Footprint {
    /// Of `config` in `format` with a cache for `context` tokens.
    pub fn new(config: &ModelConfig, format: ExportFormat, context: usize) -> Self {
        let stored = stored_size(config, format);
        let memory = Memory::new(config, stored.tensor_bytes, context);
        let traffic = Traffic::new(config, &stored, context);
        Self { stored, memory, traffic, context }
    }
}

/// What a format is, for the program that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A directory with 32-bit floats.
    HuggingFace,
    /// A directory with groups of codes.
    Mlx(AffineGrid),
    /// A file of that type.
    Gguf(GgufType),
}

/// Of a format of the config.
pub fn container(format: ExportFormat) -> Container {
    match format {
        ExportFormat::HuggingFace => Container::HuggingFace,
        ExportFormat::MlxQ8 => Container::Mlx(AffineGrid::Q8),
        ExportFormat::MlxQ4 => Container::Mlx(AffineGrid::Q4),
        ExportFormat::GgufF32 => Container::Gguf(GgufType::F32),
        ExportFormat::GgufF16 => Container::Gguf(GgufType::F16),
        ExportFormat::GgufQ8_0 => Container::Gguf(GgufType::Q8_0),
        ExportFormat::GgufQ6K => Container::Gguf(GgufType::Q6K),
        ExportFormat::GgufQ5KM => Container::Gguf(GgufType::Q5KM),
        ExportFormat::GgufQ4KM => Container::Gguf(GgufType::Q4KM),
        ExportFormat::GgufQ4_0 => Container::Gguf(GgufType::Q4_0),
    }
}

/// The file of a format: of a directory, its weights.
pub fn stored_size(config: &ModelConfig, format: ExportFormat) -> StoredSize {
    match container(format) {
        Container::HuggingFace => safetensors_size(config),
        Container::Mlx(grid) => mlx_size(config, grid),
        Container::Gguf(kind) => gguf_size(config, kind),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use limbeck_config::Architecture;

    /// 56.4 million weights in matrices: 16 blocks of 3,014,656 and an embedding of 16,000 × 512.
    pub(crate) fn config() -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Qwen3,
            vocab_size: 16_000,
            hidden_size: 512,
            intermediate_size: 1536,
            num_hidden_layers: 16,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            head_dim: 64,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            max_position_embeddings: 4096,
        }
    }

    /// By hand: 60,028,928 bytes of weights (see `gguf_size`), a cache of 2,048 · 16 · 2 · 64 · 4 bytes, and 4 · 512 · (5·512 +
    /// 3·1536) + 2 · 512 · 2,048 bytes of activations.
    #[test]
    fn a_footprint_is_the_sum_of_its_parts() {
        let footprint = Footprint::new(&config(), ExportFormat::GgufQ8_0, 2048);
        assert_eq!(footprint.stored.tensor_bytes, 60_028_928);
        assert_eq!(footprint.memory.cache_bytes(CacheType::F16), 16_777_216);
        assert_eq!(footprint.memory.activations, 14_680_064 + 2_097_152);
        let resident = footprint.memory.resident_bytes(CacheType::F16);
        assert_eq!(resident, 60_028_928 + 16_777_216 + 16_777_216 + 30_000_000);
        assert_eq!(footprint.traffic.bytes, 60_028_928 + 16_777_216);
    }

    #[test]
    fn more_of_anything_takes_more() {
        let base = Footprint::new(&config(), ExportFormat::GgufQ4_0, 1024);
        let deeper = ModelConfig { num_hidden_layers: 17, ..config() };
        for other in [
            Footprint::new(&config(), ExportFormat::GgufQ8_0, 1024),
            Footprint::new(&config(), ExportFormat::GgufQ4_0, 1536),
            Footprint::new(&deeper, ExportFormat::GgufQ4_0, 1024),
        ] {
            assert!(other.memory.resident_bytes(CacheType::Q8_0) > base.memory.resident_bytes(CacheType::Q8_0));
            assert!(other.traffic.bytes > base.traffic.bytes);
            for device in devices() {
                assert!(other.traffic.speed(device).expected_s > base.traffic.speed(device).expected_s);
            }
        }
    }
}

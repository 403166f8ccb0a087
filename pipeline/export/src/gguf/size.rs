//! How large a file will be, from the shape alone: no weights, no tokenizer.

use limbeck_config::ModelConfig;
use limbeck_quant::{AffineGrid, Grid};

use super::layout::{TensorLayout, tensor_layouts};
use super::model::stored;
use super::{ALIGNMENT, GgufType};

/// Counts, magic, version, the keys of the shape and of the tokenizer, and a chat template of usual length.
const FIXED_HEADER_BYTES: u64 = 1_800;

/// The tokens of single bytes, which no merge makes: a length of 8 bytes, one or two letters, a type of 4 bytes.
const BYTE_TOKENS: u64 = 256;
const BYTE_TOKEN_BYTES: u64 = 14;

/// Another token with its type and the merge that makes it: two lengths of 8 bytes, a type of 4, the token's text twice and a
/// space. The texts have four bytes in the smallest vocabularies and six in large ones.
const MERGED_TOKEN_BYTES: u64 = 31;

/// What safetensors says of a tensor, besides its name: type, shape and place as JSON.
const SAFETENSORS_ENTRY_BYTES: u64 = 75;

/// Bytes of a model's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSize {
    /// All tensors, exactly.
    pub tensor_bytes: u64,
    /// Of these, the embedding of an untied model: a token needs one row of it.
    pub lookup_bytes: u64,
    /// Everything before the tensors; an estimate, good to a tenth.
    pub header_bytes: u64,
}

impl StoredSize {
    /// The whole file.
    pub fn file_bytes(&self) -> u64 {
        self.tensor_bytes + self.header_bytes
    }
}

/// Of a GGUF file that [`write_gguf`](super::write_gguf) would make: the same tensors on the same grids, fall-backs included.
pub fn gguf_size(config: &ModelConfig, kind: GgufType) -> StoredSize {
    let mut size = StoredSize {
        tensor_bytes: 0,
        lookup_bytes: 0,
        header_bytes: FIXED_HEADER_BYTES + vocabulary_bytes(config.vocab_size as u64),
    };
    for layout in tensor_layouts(config) {
        let grid = stored(&layout, kind.recipe(), config).map_or(Grid::F32, |stored| stored.grid);
        let bytes = tensor_bytes(&layout, grid).next_multiple_of(ALIGNMENT);
        size.add(bytes, &layout, config);
        // Length and name, the number of dimensions, each of them, type and place.
        size.header_bytes += (8 + layout.gguf.len() + 4 + 8 * layout.shape.len() + 4 + 8) as u64;
    }
    size
}

/// Of `model.safetensors` in 32-bit floats, as a checkpoint and an exported directory have it.
pub fn safetensors_size(config: &ModelConfig) -> StoredSize {
    let mut size = StoredSize { tensor_bytes: 0, lookup_bytes: 0, header_bytes: 0 };
    for layout in tensor_layouts(config) {
        size.add(tensor_bytes(&layout, Grid::F32), &layout, config);
        size.header_bytes += layout.hugging_face.len() as u64 + SAFETENSORS_ENTRY_BYTES;
    }
    size
}

/// Of `model.safetensors` in a directory for MLX that [`write_mlx`](crate::write_mlx) would make.
pub fn mlx_size(config: &ModelConfig, grid: AffineGrid) -> StoredSize {
    let mut size = StoredSize { tensor_bytes: 0, lookup_bytes: 0, header_bytes: 0 };
    for layout in tensor_layouts(config) {
        let values: usize = layout.shape.iter().product();
        let mut entries = 1;
        let bytes = match *layout.shape.as_slice() {
            [_, input_size] if input_size.is_multiple_of(grid.group_size()) => {
                entries = 3;
                // A scale and a bias of 16 bits for every group.
                values * grid.bits() as usize / 8 + values / grid.group_size() * 4
            }
            _ => 2 * values,
        };
        size.add(bytes as u64, &layout, config);
        size.header_bytes += entries * (layout.hugging_face.len() as u64 + SAFETENSORS_ENTRY_BYTES);
    }
    size
}

impl StoredSize {
    fn add(&mut self, bytes: u64, layout: &TensorLayout, config: &ModelConfig) {
        self.tensor_bytes += bytes;
        if layout.gguf == "token_embd.weight" && !config.tie_word_embeddings {
            self.lookup_bytes += bytes;
        }
    }
}

fn vocabulary_bytes(entries: u64) -> u64 {
    let bytes = entries.min(BYTE_TOKENS);
    BYTE_TOKEN_BYTES * bytes + MERGED_TOKEN_BYTES * (entries - bytes)
}

/// A row that fits no grid is stored on one that takes any length, so this is exact.
fn tensor_bytes(layout: &TensorLayout, grid: Grid) -> u64 {
    let row_size = layout.shape.last().copied().unwrap_or(1);
    let rows = layout.shape.iter().product::<usize>() / row_size.max(1);
    (row_size / grid.block_size() * grid.block_bytes()) as u64 * rows as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use limbeck_config::Architecture;

    fn config(tie_word_embeddings: bool) -> ModelConfig {
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
            tie_word_embeddings,
            max_position_embeddings: 2048,
        }
    }

    /// A block has 2·512·512 + 2·128·512 + 3·512·1536 = 3,014,656 weights in matrices and 2·512 + 2·64 in norms; the
    /// embedding 8,192,000. Files of this shape that llama.cpp's quantizer made: 108, 57.4 and 32.5 MiB.
    #[test]
    fn sizes_are_those_counted_by_hand() {
        let (matrices, norms) = (16 * 3_014_656, 4 * (16 * 1152 + 512));
        let bytes = |kind| gguf_size(&config(true), kind).tensor_bytes;
        assert_eq!(bytes(GgufType::F32), 4 * (matrices + 8_192_000) + norms);
        assert_eq!(bytes(GgufType::F16), 2 * (matrices + 8_192_000) + norms);
        assert_eq!(bytes(GgufType::Q8_0), (matrices + 8_192_000) / 32 * 34 + norms);
        // The embedding, which is the output, has 210 bytes for 256 values.
        assert_eq!(bytes(GgufType::Q4_0), matrices / 32 * 18 + 8_192_000 / 256 * 210 + norms);
        let mebibytes = |kind| bytes(kind) as f64 / f64::from(1 << 20);
        assert!((mebibytes(GgufType::F16) - 107.7).abs() < 0.1, "{}", mebibytes(GgufType::F16));
        assert!((mebibytes(GgufType::Q8_0) - 57.3).abs() < 0.1, "{}", mebibytes(GgufType::Q8_0));
        assert!((mebibytes(GgufType::Q4_0) - 32.4).abs() < 0.1, "{}", mebibytes(GgufType::Q4_0));
        assert_eq!(safetensors_size(&config(true)).tensor_bytes, bytes(GgufType::F32));
        // 4.5 bits and 8.5 bits a weight of a matrix, 16 of a norm.
        let mlx = |grid| mlx_size(&config(true), grid).tensor_bytes;
        assert_eq!(mlx(AffineGrid::Q4), (matrices + 8_192_000) / 16 * 9 + norms / 2);
        assert_eq!(mlx(AffineGrid::Q8), (matrices + 8_192_000) / 16 * 17 + norms / 2);
    }

    #[test]
    fn an_untied_embedding_is_stored_and_not_read() {
        let (tied, untied) = (gguf_size(&config(true), GgufType::F16), gguf_size(&config(false), GgufType::F16));
        assert_eq!(untied.tensor_bytes - tied.tensor_bytes, 2 * 8_192_000);
        assert_eq!((tied.lookup_bytes, untied.lookup_bytes), (0, 2 * 8_192_000));
    }
}

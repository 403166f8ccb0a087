//! GGUF, the file of llama.cpp and what stands on it.
//!
//! ```text
//! write_gguf: layout (names, row order) + keys (shape) + tokenizer ──▶ write_container ──▶ one file
//! read_gguf:  GgufFile ──▶ keys ──▶ layout ──▶ ModelConfig, NamedTensors
//! read_gguf_tokenizer: GgufFile ──▶ vocabulary ──▶ Tokenizer
//! ```
//!
//! Written by us, because llama.cpp's own converter refuses every byte-level BPE that was trained here: it knows
//! tokenizers by a hash of the ids that they give to one text.
//!
//! # Source
//! `docs/gguf.md` of ggml; `gguf-py` of llama.cpp.

mod keys;
mod layout;
mod model;
mod pre_tokenizer;
mod read;
mod size;
mod tokenizer;
mod value;
mod vocabulary;
mod write;

pub use model::{Fallback, GgufReport, GgufType, Importance, Storage, read_gguf, read_gguf_config, write_gguf};
pub use read::{GgufFile, TensorInfo};
pub use size::{StoredSize, gguf_size, mlx_size, safetensors_size};
pub use value::{TensorType, Value, ValueType};
pub use vocabulary::read_gguf_tokenizer;
pub use write::{TensorSource, write_container};

const MAGIC: [u8; 4] = *b"GGUF";
const VERSION: u32 = 3;

/// Tensors begin at multiples of this, unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;

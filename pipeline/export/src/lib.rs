//! Formats that other programs load, one folder or file a format, and the import of what they made.
//!
//! ```text
//! ModelConfig, NamedTensors, tokenizer files ── write_gguf ──▶ model.gguf ── read_gguf ──▶ ModelConfig, NamedTensors
//! ModelConfig, NamedTensors ── write_mlx ──▶ directory for MLX, which `limbeck-model` reads
//! ```
//!
//! A Hugging Face directory is what a checkpoint already is; `limbeck-model` writes it.

mod check;
mod error;
pub mod gguf;
mod mlx;

pub use check::{Agreement, compare};
pub use error::ExportError;
pub use gguf::{
    GgufReport, GgufType, Importance, Storage, StoredSize, gguf_size, mlx_size, read_gguf, read_gguf_config,
    read_gguf_tokenizer, safetensors_size, write_gguf,
};
pub use mlx::{Unpacked, write_mlx};

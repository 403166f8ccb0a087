//! The decoder: Qwen3 or Llama layout, generation with a key-value cache, Hugging Face's directories.
//!
//! Field names are Hugging Face's, so a parameter's path in the module tree is its name in a file.
//!
//! ```text
//! tokens -> embed_tokens -> layers: (RMSNorm -> attention -> +) -> (RMSNorm -> SwiGLU -> +) -> norm -> hidden
//! hidden x output_weight -> logits, or the loss head, a chunk of rows at a time
//! ```

mod block;
mod cache;
mod continuous;
mod cut;
mod directory;
mod error;
mod fake_quant;
mod fingerprint;
mod forward;
mod generate;
mod initialize;
mod layers;
mod packed;
mod path;
mod random;
mod sampling;
mod shards;
mod transformer;
mod weights;

pub use block::{Attention, Block, FeedForward};
pub use continuous::{Ended, Joined, NewToken, RunningBatch};
pub use cut::{BlockCut, Cut};
pub use directory::{TokenIds, load_directory, read_config, write_config, write_directory};
pub use error::ModelError;
pub use fake_quant::fake_quant_recipe;
pub use fingerprint::fingerprint;
pub use forward::{Forward, TracedBlock, TracedNorm};
pub use generate::{Generation, generate, generate_in_batches};
pub use initialize::initialize;
pub use layers::{Embedding, Linear, RmsNorm};
pub use path::ModulePath;
pub use sampling::Sampling;
pub use transformer::{Body, Transformer};
pub use weights::{
    HostTensor, NamedTensors, StoredTensor, load_parameters, load_tensors, parameters, save_stored, save_tensors,
};

//! A model by its content: whatever file it came from.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use limbeck_config::ModelConfig;

use crate::path::ModulePath;
use crate::transformer::Transformer;
use crate::weights::HostTensor;

/// Values that are hashed at once.
const CHUNK: usize = 1 << 16;

/// BLAKE3 of all that decides what a model says: its shape, and the name, shape and 32-bit values of every parameter.
///
/// A checkpoint and its export, the same weights in one file or several, have the same fingerprint.
pub fn fingerprint(model: &Transformer) -> String {
    let mut hasher = Hasher { hasher: blake3::Hasher::new(), path: ModulePath::default() };
    hasher.text("limbeck weights 1");
    hasher.shape(model.config());
    model.visit(&mut hasher);
    hasher.hasher.finalize().to_hex().to_string()
}

struct Hasher {
    hasher: blake3::Hasher,
    path: ModulePath,
}

impl Hasher {
    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.hasher.update(text.as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.hasher.update(&(number as u64).to_le_bytes());
    }

    /// What the parameters do not say; their shapes say the rest.
    fn shape(&mut self, config: &ModelConfig) {
        // No `..`: a new field of the shape belongs here or nowhere.
        let ModelConfig {
            architecture,
            vocab_size: _,
            hidden_size: _,
            intermediate_size: _,
            num_hidden_layers: _,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps,
            rope_theta,
            tie_word_embeddings,
            max_position_embeddings: _,
        } = config;
        self.text(&format!("{architecture:?}"));
        for number in [num_attention_heads, num_key_value_heads, head_dim] {
            self.number(*number);
        }
        for number in [rms_norm_eps, rope_theta] {
            self.hasher.update(&number.to_le_bytes());
        }
        self.number(usize::from(*tie_word_embeddings));
    }
}

impl ModuleVisitor for Hasher {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let tensor = HostTensor::from_tensor(parameter.val());
        self.text(&self.path.name());
        self.number(tensor.shape.len());
        tensor.shape.iter().for_each(|size| self.number(*size));
        for values in tensor.values.chunks(CHUNK) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.hasher.update(&bytes);
        }
    }
}

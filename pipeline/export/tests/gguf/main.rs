//! GGUF files against those that the `gguf` Python package writes; `tests/reference/gguf_models.py` made `golden/`.

mod container;
mod model;
mod refused;
mod tokenizer;

use std::fs;
use std::path::{Path, PathBuf};

use limbeck_config::{Architecture, ModelConfig};
use limbeck_export::gguf::{GgufFile, TensorSource, TensorType, Value, write_container};
use limbeck_model::{HostTensor, NamedTensors};

/// A file or directory beside the tests.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The shape of the models of `gguf_models.py`: no two sizes are the same.
fn config(architecture: Architecture, tie_word_embeddings: bool) -> ModelConfig {
    ModelConfig {
        architecture,
        vocab_size: 23,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        num_key_value_heads: 1,
        head_dim: 10,
        rms_norm_eps: 1e-6,
        rope_theta: 50_000.0,
        tie_word_embeddings,
        max_position_embeddings: 77,
    }
}

/// `tensor` of `gguf_models.py`.
fn tensor(seed: i64, shape: &[usize]) -> HostTensor {
    let count = shape.iter().product::<usize>() as i64;
    let values = (0..count).map(|index| ((index * 7919 + seed * 104_729) % 1009 - 504) as f32 / 512.0).collect();
    HostTensor { shape: shape.to_vec(), values }
}

/// The weights of the models of `gguf_models.py`, under Hugging Face's names.
fn tensors(config: &ModelConfig) -> NamedTensors {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (queries, keys) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let mut shapes = vec![("model.embed_tokens".to_owned(), vec![config.vocab_size, hidden])];
    for layer in 0..config.num_hidden_layers {
        let mut block = vec![
            ("input_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
        ];
        if config.architecture == Architecture::Qwen3 {
            block.extend(["q", "k"].map(|which| match which {
                "q" => ("self_attn.q_norm", vec![config.head_dim]),
                _ => ("self_attn.k_norm", vec![config.head_dim]),
            }));
        }
        block.extend([
            ("post_attention_layernorm", vec![hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ]);
        shapes.extend(block.into_iter().map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape)));
    }
    shapes.push(("model.norm".to_owned(), vec![hidden]));
    if !config.tie_word_embeddings {
        shapes.push(("lm_head".to_owned(), vec![config.vocab_size, hidden]));
    }
    let named =
        |(seed, (name, shape)): (usize, (String, Vec<usize>))| (format!("{name}.weight"), tensor(seed as i64, &shape));
    shapes.into_iter().enumerate().map(named).collect()
}

/// Metadata and tensors of a golden file, for tests that write it again with something changed.
struct Parts {
    metadata: Vec<(String, Value)>,
    tensors: Vec<TensorSource<'static>>,
}

impl Parts {
    fn of(name: &str) -> Self {
        let file = GgufFile::open(&golden(name)).expect("golden files are valid");
        let tensors = file.tensors.iter().map(|(name, info)| {
            let TensorType::Grid(grid) = info.kind else { panic!("golden files have known types") };
            let values = file.tensor(name).expect("golden tensors are valid").into();
            TensorSource { name: name.clone(), shape: info.shape.clone(), grid, values, importance: None }
        });
        Self { tensors: tensors.collect(), metadata: file.metadata.into_iter().collect() }
    }

    fn set(&mut self, key: &str, value: Value) {
        self.metadata.retain(|(name, _)| name != key);
        self.metadata.push((key.to_owned(), value));
    }

    fn write(&self, path: &Path) {
        write_container(path, &self.metadata, &self.tensors).expect("the values fit their grids");
    }
}

/// A copy of the tokenizer of `golden/` with one text replaced in one file.
fn tokenizer_with(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        let text = fs::read_to_string(golden("tokenizer").join(name)).expect("a golden file");
        let text = if name == file {
            assert!(text.contains(from), "{name} has no {from}");
            text.replace(from, to)
        } else {
            text
        };
        fs::write(directory.path().join(name), text).expect("a writable directory");
    }
    directory
}

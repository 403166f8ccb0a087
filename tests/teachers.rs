//! Models that users have already. `tests/reference/make_teacher_fixtures.py` made them, with transformers and the `gguf`
//! package.

mod models;
mod refused;
mod stages;
mod tokens;

use std::path::PathBuf;

use crate::support::project::source_root;

/// The models: a directory with several files of weights, one with biases, a file with every type of tensor.
const TEACHERS: [&str; 3] = ["llama", "qwen2", "mixed.gguf"];

fn path(name: &str) -> PathBuf {
    source_root().join("tests/reference/teachers").join(name)
}

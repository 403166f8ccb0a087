//! Whole models: the bytes of the `gguf` package, and the way back.

use std::fs;
use std::path::Path;

use limbeck_config::{Architecture, ModelConfig};
use limbeck_export::{GgufReport, GgufType, read_gguf, write_gguf};
use limbeck_quant::Grid;

use crate::{config, golden, tensors};

fn write(config: &ModelConfig, kind: GgufType, path: &Path) -> GgufReport {
    write_gguf(path, config, &tensors(config), &golden("tokenizer"), kind).expect("a valid model")
}

/// The file's name is in it, so both have the same one.
fn equals_golden(architecture: Architecture, tied: bool, kind: GgufType, name: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(name);
    let report = write(&config(architecture, tied), kind, &path);
    let (ours, theirs) = (fs::read(&path).expect("ours"), fs::read(golden(name)).expect("theirs"));
    assert_eq!(ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs), None, "first byte that differs");
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(report.file_bytes, theirs.len() as u64);
}

#[test]
fn qwen3_in_q8_0_equals_the_file_of_the_gguf_package() {
    equals_golden(Architecture::Qwen3, true, GgufType::Q8_0, "qwen3-tied-q8_0.gguf");
}

#[test]
fn llama_in_f32_equals_the_file_of_the_gguf_package() {
    equals_golden(Architecture::Llama, false, GgufType::F32, "llama-untied-f32.gguf");
}

#[test]
fn llama_in_f16_equals_the_file_of_the_gguf_package() {
    equals_golden(Architecture::Llama, true, GgufType::F16, "llama-tied-f16.gguf");
}

#[test]
fn what_was_written_reads_back_under_hugging_faces_names() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.gguf");
    for architecture in [Architecture::Qwen3, Architecture::Llama] {
        for tied in [true, false] {
            let config = config(architecture, tied);
            // Multiples of 1/512 below 1 are exact in both.
            for kind in [GgufType::F32, GgufType::F16] {
                write(&config, kind, &path);
                let (read_config, read_tensors) = read_gguf(&path).expect("our own file");
                assert_eq!(read_config, config);
                assert_eq!(read_tensors, tensors(&config), "{architecture:?} {kind}");
            }
            write(&config, GgufType::Q8_0, &path);
            let (_, read_tensors) = read_gguf(&path).expect("our own file");
            for (name, tensor) in tensors(&config) {
                let read = &read_tensors[&name];
                assert_eq!(read.shape, tensor.shape);
                let error = read.values.iter().zip(&tensor.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Half a step of 1/127, and the rounding of the scale.
                assert!(error < 0.0045, "{name}: {error}");
            }
        }
    }
}

#[test]
fn rows_that_are_not_whole_blocks_fall_back_to_f16_and_are_reported() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let report = write(&config(Architecture::Qwen3, true), GgufType::Q8_0, &directory.path().join("model.gguf"));
    let fallbacks: Vec<_> = report.fallbacks.iter().map(|f| (f.tensor.as_str(), f.input_size, f.stored)).collect();
    assert_eq!(fallbacks, [("blk.0.attn_output.weight", 30, Grid::F16), ("blk.1.attn_output.weight", 30, Grid::F16)]);
    assert_eq!(
        report.fallbacks[0].to_string(),
        "blk.0.attn_output.weight is stored as F16, not Q8_0: its rows of 30 values are not whole blocks of 32"
    );
    assert!(report.notes.is_empty());
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.gguf");
    let bytes = || {
        write(&config(Architecture::Llama, false), GgufType::Q8_0, &path);
        fs::read(&path).expect("a file")
    };
    assert_eq!(bytes(), bytes());
}

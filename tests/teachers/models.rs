//! The logits are transformers'.

use anyhow::{Context, ensure};
use burn::tensor::Device;
use limbeck::source::model_at;
use limbeck_export::{GgufType, read_gguf, write_gguf};
use limbeck_model::{HostTensor, NamedTensors, Transformer, fingerprint, load_directory, load_parameters, parameters};
use serde_json::Value;

use super::{TEACHERS, path};
use crate::support::distance::{max_abs, values};

/// Float32 against float64 that was rounded once, as in `parity.rs`.
const TOLERANCE: f64 = 1e-4;

/// What transformers says after each token.
struct Expected {
    tokens: Vec<u32>,
    facts: Value,
}

impl Expected {
    fn of(name: &str) -> anyhow::Result<Self> {
        let facts: Value = serde_json::from_slice(&std::fs::read(path(name).with_extension("json"))?)?;
        Ok(Self { tokens: serde_json::from_value(facts["tokens"].clone())?, facts })
    }

    fn distance(&self, model: &Transformer, logits: &str) -> anyhow::Result<f64> {
        let expected: Vec<Vec<f32>> = serde_json::from_value(self.facts[logits].clone()).context("logits")?;
        Ok(max_abs(&logits_of(model, &self.tokens), &expected.concat()))
    }
}

fn logits_of(model: &Transformer, tokens: &[u32]) -> Vec<f32> {
    let positions: Vec<u32> = (0..tokens.len() as u32).collect();
    values(model.logits(tokens, &positions, tokens.len()))
}

#[test]
fn logits_of_directories_and_files_are_those_of_transformers() -> anyhow::Result<()> {
    for name in TEACHERS {
        let expected = Expected::of(name)?;
        let distance = expected.distance(&model_at(&path(name), &Device::flex())?, "logits")?;
        ensure!(distance < TOLERANCE, "{name}: {distance}");
    }
    Ok(())
}

/// Rows of queries and keys as they stand in the file: what a reader gets that forgets llama.cpp's order.
#[test]
fn with_rows_in_llama_cpps_order_the_comparison_fails() -> anyhow::Result<()> {
    let expected = Expected::of("mixed.gguf")?;
    let (config, tensors) = read_gguf(&path("mixed.gguf"))?;
    let half = config.head_dim / 2;
    let stored = |(name, tensor): (String, HostTensor)| {
        if !name.contains("q_proj") && !name.contains("k_proj") {
            return (name, tensor);
        }
        let columns = tensor.shape[1];
        let rows: Vec<&[f32]> = tensor.values.chunks(columns).collect();
        let row = |i: usize| rows[i / (2 * half) * 2 * half + i % 2 * half + i % (2 * half) / 2];
        (name, HostTensor { values: (0..rows.len()).flat_map(row).copied().collect(), shape: tensor.shape.clone() })
    };
    let tensors: NamedTensors = tensors.into_iter().map(stored).collect();
    let model = load_parameters(Transformer::zeros(&config, &Device::flex()), tensors)?;
    let distance = expected.distance(&model, "logits")?;
    ensure!(distance > 1e3 * TOLERANCE, "{distance}");
    // For this reason and no other.
    let distance = expected.distance(&model, "as_stored")?;
    ensure!(distance < TOLERANCE, "{distance}");
    Ok(())
}

#[test]
fn without_its_biases_a_qwen2_is_another_model() -> anyhow::Result<()> {
    let expected = Expected::of("qwen2")?;
    let model = load_directory(&path("qwen2"), &Device::flex())?;
    let mut tensors = parameters(&model);
    for (name, tensor) in &mut tensors {
        if name.ends_with("k_proj.bias") {
            tensor.values.fill(0.0);
        }
    }
    let model = load_parameters(model, tensors)?;
    let distance = expected.distance(&model, "logits")?;
    ensure!(distance > 1e2 * TOLERANCE, "{distance}");
    Ok(())
}

#[test]
fn what_was_read_is_the_same_model_in_every_file() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    for name in ["llama", "qwen2"] {
        let model = load_directory(&path(name), &Device::flex())?;
        let file = directory.path().join(name).with_extension("gguf");
        write_gguf(&file, model.config(), &parameters(&model), &path(name), GgufType::F32)?;
        assert_eq!(fingerprint(&model_at(&file, &Device::flex())?), fingerprint(&model), "{name}");
    }
    Ok(())
}

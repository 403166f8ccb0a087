//! What the columns of a matrix matter, and files that are written by it.

use limbeck_config::{Architecture, ModelConfig};
use limbeck_export::{GgufType, Importance, Storage, read_gguf, write_gguf};
use limbeck_model::{HostTensor, Transformer, load_parameters, parameters};
use limbeck_train::input_mean_squares;

use crate::support::batches::documents;
use crate::support::devices::cpu;
use crate::support::models::small;
use crate::support::numbers::Numbers;
use crate::support::project::source_root;

/// Without matrices in its blocks a model hands the embedding through: what every norm gives is the token's row over its root
/// mean square, and what `o_proj` and `down_proj` read is zero.
#[test]
fn mean_squares_are_those_of_the_targets() -> anyhow::Result<()> {
    let config = small(Architecture::Llama);
    let mut weights = parameters(&Transformer::zeros(&config, &cpu()));
    let rows = Numbers::new(2).uniform(config.vocab_size * config.hidden_size);
    weights.insert(
        "model.embed_tokens.weight".to_owned(),
        HostTensor { shape: vec![config.vocab_size, config.hidden_size], values: rows.clone() },
    );
    let model = load_parameters(Transformer::zeros(&config, &cpu()), weights)?;
    let mut batch = documents(6, 5, 13, config.vocab_size);
    batch.loss_mask.iter_mut().enumerate().for_each(|(token, counts)| *counts = token % 3 != 1);
    let mut expected = vec![0.0; config.hidden_size];
    for (id, _) in batch.inputs.iter().zip(&batch.loss_mask).filter(|(_, counts)| **counts) {
        let row = &rows[*id as usize * config.hidden_size..][..config.hidden_size];
        let mean = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / config.hidden_size as f64;
        for (sum, value) in expected.iter_mut().zip(row) {
            *sum += f64::from(*value).powi(2) / (mean + 1e-6) / batch.target_tokens() as f64;
        }
    }
    let found = input_mean_squares(&model, &batch.micro_batches(2));
    assert_eq!(found.len(), 7 * config.num_hidden_layers + 1);
    for (name, found) in &found {
        if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
            assert!(found.iter().all(|mean| *mean == 0.0), "{name}");
            continue;
        }
        for (found, expected) in found.iter().zip(&expected) {
            // Sums of 43 32-bit squares.
            assert!((f64::from(*found) - expected).abs() < 1e-5 * expected, "{name}: {found} {expected}");
        }
    }
    Ok(())
}

/// A matrix whose rows are in another order in the file is weighted by its columns all the same.
#[test]
fn files_err_less_where_it_matters() -> anyhow::Result<()> {
    let tokenizer = source_root().join("pipeline/export/tests/golden/tokenizer");
    let config = ModelConfig {
        vocab_size: 300,
        hidden_size: 256,
        intermediate_size: 512,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 64,
        ..small(Architecture::Llama)
    };
    let tensors = parameters(&Transformer::new(&config, 5, &cpu()));
    let mut numbers = Numbers::new(9);
    let mut importance = Importance::new();
    for (name, tensor) in &tensors {
        // The embedding of an untied model reads nothing.
        if let [_, columns] = tensor.shape[..]
            && name != "model.embed_tokens.weight"
        {
            importance.insert(name.clone(), numbers.uniform(columns).iter().map(|value| 30f32.powf(*value)).collect());
        }
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("model.gguf");
    for kind in [GgufType::Q4_0, GgufType::Q4KM, GgufType::Q5KM, GgufType::Q6K, GgufType::Q8_0] {
        let mut files = Vec::new();
        for importance in [None, Some(&importance)] {
            write_gguf(&path, &config, &tensors, &tokenizer, Storage { importance, ..Storage::from(kind) })?;
            files.push(read_gguf(&path)?.1);
        }
        for (name, tensor) in &tensors {
            let weights = importance.get(name);
            let [plain, weighted] = [0, 1].map(|file| error(tensor, &files[file][name], weights));
            let uses = kind != GgufType::Q8_0 && weights.is_some();
            assert!(if uses { weighted < plain } else { weighted == plain }, "{kind} {name}: {weighted} {plain}");
        }
    }
    Ok(())
}

/// `Σ importance · (value − stored)²` over a matrix.
fn error(tensor: &HostTensor, stored: &HostTensor, importance: Option<&Vec<f32>>) -> f64 {
    let columns = tensor.shape[tensor.shape.len() - 1];
    let squares = tensor.values.iter().zip(&stored.values).enumerate().map(|(index, (value, stored))| {
        let weight = importance.map_or(1.0, |importance| importance[index % columns]);
        f64::from(weight) * f64::from(value - stored).powi(2)
    });
    squares.sum()
}

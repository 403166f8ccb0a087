//! What other programs find in our files: a trained Qwen3, Llama and Qwen2, as a step directory, as an exported Hugging
//! Face directory and as GGUF files, with what we say of each in the `expected*.json` of `tests/reference/check_*.py`. Where
//! `LIMBECK_TEXTS` names a parquet file, a Qwen3 and a Llama that learned from it besides those of the embedded world.
//!
//! The files stay in `<target>/tmp/clients/<name>/`, where `.ci/clients` finds them. Where `LIMBECK_CLIENTS` names
//! a Python that has what `.ci/run` installs, llama.cpp and mlx-lm open them here, and OpenAI's client talks to a server.

mod files;
mod memory;
mod teacher;
mod texts;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use burn::tensor::Device;
use limbeck_data::Tokenizer;
use limbeck_export::compare;
use limbeck_model::load_directory;
use serde_json::Value;

pub(crate) use self::texts::texts as fuzzed_texts;

pub(crate) use self::files::files;
use self::files::{EXPORTS, Export, GREEDY_TOKENS, MLX_EXPORTS, chat_model, last_logits, read_model};
use crate::support::project::{binaries, source_root};

/// Runs a check of `tests/reference/` if there is a Python for it.
fn check(script: &str, arguments: &[&OsStr]) -> anyhow::Result<()> {
    let Some(python) = std::env::var_os("LIMBECK_CLIENTS") else { return Ok(()) };
    let script = source_root().join("tests/reference").join(script);
    let output = Command::new(&python).arg(&script).args(arguments).output().context("LIMBECK_CLIENTS")?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}\n{stderr}", script.display(), output.status);
    Ok(())
}

#[test]
fn llama_cpp_agrees_with_the_gguf_files() -> anyhow::Result<()> {
    for files in files()? {
        let directory = files.export.join("hugging-face");
        for Export { file, expected, kl_tolerance, .. } in EXPORTS {
            let decoded = files.decoded(file);
            let (file, expected) = (files.export.join(file), files.root.join(expected));
            let mut arguments = vec![OsStr::new("--gguf"), file.as_os_str(), OsStr::new("--expected")];
            arguments.extend([expected.as_os_str(), OsStr::new("--hugging-face"), directory.as_os_str()]);
            match kl_tolerance {
                Some(_) => arguments.extend([OsStr::new("--decoded"), decoded.as_os_str()]),
                // The control sees exact differences; those of rounded types it would have to weigh.
                None => arguments.push(OsStr::new("--control")),
            }
            check("check_gguf.py", &arguments)?;
        }
    }
    Ok(())
}

#[test]
fn mlx_agrees_with_the_step_and_the_exported_directory() -> anyhow::Result<()> {
    for files in files()? {
        for directory in [&files.step, &files.export.join("hugging-face")] {
            check("check_mlx.py", &[directory.as_os_str(), files.root.join("expected.json").as_os_str()])?;
        }
    }
    Ok(())
}

/// mlx-lm opens the directories for MLX, and makes the same files of the Hugging Face directory.
#[test]
fn mlx_agrees_with_the_directories_for_mlx() -> anyhow::Result<()> {
    for files in files()? {
        let original = files.export.join("hugging-face");
        for Export { file, expected, .. } in MLX_EXPORTS {
            let (directory, expected) = (files.export.join(file), files.root.join(expected));
            check("check_mlx.py", &[directory.as_os_str(), expected.as_os_str(), original.as_os_str()])?;
        }
    }
    Ok(())
}

#[test]
fn openais_client_talks_to_the_server() -> anyhow::Result<()> {
    // It takes a while to train what the client talks to.
    if std::env::var_os("LIMBECK_CLIENTS").is_none() {
        return Ok(());
    }
    let model = chat_model()?;
    check("check_server.py", &[binaries().join("generate").as_os_str(), model.as_os_str()])
}

#[test]
fn exported_models_are_the_step_of_the_run() -> anyhow::Result<()> {
    for files in files()? {
        let step = load_directory(&files.step, &Device::flex())?;
        let exported = [
            (load_directory(&files.export.join("hugging-face"), &Device::flex())?, 0.0),
            (read_model(&files.export.join("model-f32.gguf"))?, 0.0),
            (read_model(&files.export.join("model-f16.gguf"))?, 2e-2),
            (read_model(&files.export.join("model-q8_0.gguf"))?, 0.5),
            (read_model(&files.export.join("model-q6_k.gguf"))?, 0.5),
            (read_model(&files.export.join("model-q5_k_m.gguf"))?, 1.0),
            (read_model(&files.export.join("model-q4_k_m.gguf"))?, 2.0),
            (read_model(&files.export.join("model-q4_0.gguf"))?, 2.0),
            (read_model(&files.export.join("mlx-q8"))?, 0.5),
            (read_model(&files.export.join("mlx-q4"))?, 2.0),
        ];
        let prompt: Vec<u32> = (0..37).map(|i| (i * 7919) % step.config().vocab_size as u32).collect();
        let reference = last_logits(&step, &prompt);
        for (index, (model, tolerance)) in exported.iter().enumerate() {
            let found = compare(&reference, &last_logits(model, &prompt), reference.len()).relative_error;
            ensure!(found <= *tolerance, "export {index} of `{}` is off by {found}", files.export.display());
        }
    }
    Ok(())
}

/// What the clients compare with is what the model does, by two ways through it, and has something to see.
#[test]
fn expected_values_agree_with_each_other() -> anyhow::Result<()> {
    for files in files()? {
        let facts: Value = serde_json::from_slice(&fs::read(files.root.join("expected.json"))?)?;
        let (prompts, log_probs) = (rows::<u32>(&facts, "prompts")?, rows::<f64>(&facts, "log_probs_last")?);
        let greedy = rows::<u32>(&facts, "greedy")?;
        for ((prompt, log_probs), greedy) in prompts.iter().zip(&log_probs).zip(&greedy) {
            let sum: f64 = log_probs.iter().map(|value| value.exp()).sum();
            ensure!((sum - 1.0).abs() < 1e-9, "probabilities after {prompt:?} sum to {sum}");
            let best = log_probs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(token, _)| token as u32);
            // The one is of the whole pass, the other of the cache.
            ensure!(greedy.len() == GREEDY_TOKENS && best == greedy.first().copied(), "after {prompt:?}: {greedy:?}");
            let uniform = -(log_probs.len() as f64).ln();
            ensure!(log_probs.iter().copied().fold(f64::MIN, f64::max) > uniform + 1.0, "after {prompt:?} it is flat");
        }
        let distinct: BTreeSet<u32> = greedy.concat().into_iter().collect();
        ensure!(distinct.len() > 30, "the greedy continuations are of {} tokens alone", distinct.len());
        let tokenizer = Tokenizer::from_directory(&files.step)?;
        let texts: Vec<String> = serde_json::from_value(facts["texts"].clone())?;
        for (text, ids) in texts.iter().zip(rows::<u32>(&facts, "text_ids")?) {
            ensure!(tokenizer.decode(&ids)? == *text, "{text:?} comes back otherwise");
        }
    }
    Ok(())
}

fn rows<T: serde::de::DeserializeOwned>(facts: &Value, key: &str) -> anyhow::Result<Vec<Vec<T>>> {
    serde_json::from_value(facts[key].clone()).with_context(|| key.to_owned())
}

//! A real teacher, where `LIMBECK_TEACHER` names its GGUF file: what llama.cpp and transformers make of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::Device;
use limbeck::source;
use limbeck_config::{Architecture, ModelConfig};
use limbeck_data::Tokenizer;
use limbeck_export::gguf::{GgufFile, TensorSource, TensorType, Value, write_container};
use limbeck_export::{GgufType, read_gguf_tokenizer, write_gguf};
use limbeck_model::{Transformer, parameters};
use serde_json::json;

use super::check;
use super::files::facts;
use super::texts::{TEXTS, prompts, token_facts};

/// llama.cpp rounds the activations of a product with 4-bit blocks to 8 bits, which we do not: a KL in nats.
/// SmolLM2-135M-Instruct in Q4_1 shows 0.023 after a lone begin token and less after texts.
const ROUNDED: f64 = 0.05;

/// With the same weights as 32-bit floats it rounds nothing: of a log-probability.
const EXACT: f64 = 1e-3;

/// One of each kind that is read.
const PRE_TOKENIZERS: [&str; 6] = ["gpt-2", "smollm", "qwen2", "llama-bpe", "smaug-bpe", "default"];

fn teacher() -> Option<PathBuf> {
    std::env::var_os("LIMBECK_TEACHER").map(PathBuf::from)
}

fn directory(name: &str) -> anyhow::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

#[test]
fn a_real_teacher_is_what_llama_cpp_says() -> anyhow::Result<()> {
    let Some(gguf) = teacher() else { return Ok(()) };
    let teacher =
        source::open("LIMBECK_TEACHER", &gguf, &Device::flex()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let prompts = prompts(&teacher.tokenizer)?;
    let directory = directory("teacher")?;
    let decoded = directory.join("model-f32.gguf");
    teacher.tokenizer.save(&directory)?;
    write_gguf(&decoded, teacher.model.config(), &parameters(&teacher.model), &directory, GgufType::F32)?;
    let tokens = token_facts(&teacher.tokenizer, TEXTS)?;
    for (file, name, kl_tolerance) in [(&decoded, "expected.json", None), (&gguf, "expected-q.json", Some(ROUNDED))] {
        let facts = facts(&teacher.model, tokens.clone(), &prompts, EXACT, kl_tolerance);
        let expected = directory.join(name);
        fs::write(&expected, facts.to_string())?;
        let mut arguments =
            vec![OsStr::new("--gguf"), file.as_os_str(), OsStr::new("--expected"), expected.as_os_str()];
        // The control sees exact differences.
        arguments.extend(kl_tolerance.is_none().then_some(OsStr::new("--control")));
        check("check_gguf.py", &arguments)?;
    }
    Ok(())
}

/// The teacher's vocabulary, whose merges reach over what another pre-tokenizer would cut, under each name.
#[test]
fn every_pre_tokenizer_cuts_as_llama_cpp_cuts() -> anyhow::Result<()> {
    let Some(gguf) = teacher() else { return Ok(()) };
    let directory = directory("pre-tokenizers")?;
    let tokenizer = read_gguf_tokenizer(&gguf)?;
    tokenizer.save(&directory)?;
    tell_digits_and_merges_apart(&directory.join("tokenizer.json"), tokenizer.vocab_size())?;
    let tokenizer = Tokenizer::load(&directory)?;
    let (small, named) = (directory.join("small.gguf"), directory.join("named.gguf"));
    write_small_model(&small, &tokenizer, &directory)?;
    let file = GgufFile::open(&small)?;
    let mut found = Vec::new();
    for pre in PRE_TOKENIZERS {
        let mut metadata = file.metadata.clone();
        metadata.insert("tokenizer.ggml.pre".to_owned(), Value::String(pre.to_owned()));
        let tensors = file.tensors.iter().map(|(name, info)| {
            let TensorType::Grid(grid) = info.kind else { anyhow::bail!("{name} has an unknown type") };
            let (shape, values) = (info.shape.clone(), file.tensor(name)?.into());
            Ok(TensorSource { name: name.clone(), shape, grid, values, importance: None })
        });
        let tensors: Vec<TensorSource<'_>> = tensors.collect::<anyhow::Result<_>>()?;
        write_container(&named, &metadata.into_iter().collect::<Vec<_>>(), &tensors)?;
        let mut facts = token_facts(&read_gguf_tokenizer(&named)?, TEXTS)?;
        found.push(facts["text_ids"].clone());
        facts["prompts"] = json!([[0]]);
        let expected = directory.join("expected.json");
        fs::write(&expected, facts.to_string())?;
        let arguments = [OsStr::new("--gguf"), named.as_os_str(), OsStr::new("--expected"), expected.as_os_str()];
        check("check_gguf.py", &arguments).map_err(|error| anyhow::anyhow!("{pre}: {error}"))?;
    }
    // Each of them cuts some text as no other does.
    for (index, ids) in found.iter().enumerate() {
        anyhow::ensure!(!found[index + 1..].contains(ids), "{} is another one", PRE_TOKENIZERS[index]);
    }
    Ok(())
}

/// Adds tokens of several digits, which SmolLM has none of, and one that no merge makes.
fn tell_digits_and_merges_apart(path: &Path, entries: usize) -> anyhow::Result<()> {
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
    for (index, token) in ["12", "20", "202", "na\u{c3}\u{af}ve"].into_iter().enumerate() {
        json["model"]["vocab"][token] = json!(entries + index);
    }
    let merges = json["model"]["merges"].as_array_mut().context("merges")?;
    merges.extend([json!(["1", "2"]), json!(["2", "0"]), json!(["20", "2"])]);
    Ok(fs::write(path, json.to_string())?)
}

/// As small as a model with this tokenizer can be.
fn write_small_model(path: &Path, tokenizer: &Tokenizer, files: &Path) -> anyhow::Result<()> {
    let config = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 32,
        intermediate_size: 32,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        num_key_value_heads: 1,
        head_dim: 32,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        max_position_embeddings: 64,
    };
    let model = Transformer::new(&config, 1, &Device::flex());
    write_gguf(path, &config, &parameters(&model), files, GgufType::Q8_0)?;
    Ok(())
}

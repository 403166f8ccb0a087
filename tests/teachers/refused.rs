//! What is wrong in them is named.

use limbeck_export::gguf::{GgufFile, TensorSource, TensorType, Value, write_container};
use limbeck_export::{read_gguf, read_gguf_tokenizer};

use super::path;
use crate::support::files::copy;
use crate::support::numbers::Numbers;
use crate::support::sandbox::Sandbox;

/// Refused by `generate`, with the file, the key, and a way out.
fn refused(sandbox: &Sandbox, from: &str, fragments: &[&str]) -> anyhow::Result<()> {
    let from_is = format!("--from is `{from}`");
    let outcome = sandbox.run("generate", &["--from", from, "--prompt", "a", "--max-new-tokens", "1"])?;
    outcome.refused(2, &[&[from_is.as_str(), "hint: "], fragments].concat())
}

#[test]
fn directories_are_refused_by_what_the_decoder_lacks() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let edited = |name: &str, from: &str, to: &str, fragment: &str| -> anyhow::Result<()> {
        copy(&path("qwen2"), &sandbox.path(name))?;
        let file = format!("{name}/config.json");
        let text = sandbox.read(&file)?;
        anyhow::ensure!(text.contains(from), "`{from}` is not in {text}");
        sandbox.write(&file, text.replace(from, to))?;
        refused(&sandbox, name, &[&format!("`{file}`: {fragment}")])
    };
    edited("gelu", "\"silu\"", "\"gelu\"", "hidden_act is `\"gelu\"`, must be `silu`")?;
    edited(
        "window",
        "\"use_sliding_window\": false",
        "\"use_sliding_window\": true",
        "use_sliding_window is `true`, must",
    )?;
    let yarn = r#""rope_scaling": {"type": "yarn", "factor": 4.0}"#;
    edited("yarn", "\"rope_scaling\": null", yarn, "rope_parameters is `missing`, must have rope_type `default`")?;
    let gptq = "\"quantization_config\": {\"bits\": 4}, \"model_type\"";
    edited("gptq", "\"model_type\"", gptq, "quantization_config is `{\"bits\":4}`, must not be there")?;
    let mxfp4 = r#""quantization": {"bits": 4, "group_size": 32, "mode": "mxfp4"}, "model_type""#;
    let fragment =
        r#"quantization is `{"bits":4,"group_size":32,"mode":"mxfp4"}`, must have mode `affine`, 2, 4 or 8 bits"#;
    edited("mxfp4", "\"model_type\"", mxfp4, fragment)?;
    edited("biased", "\"model_type\"", "\"mlp_bias\": true, \"model_type\"", "mlp_bias is `true`, must be false")?;
    edited("moe", "\"qwen2\"", "\"qwen2_moe\"", "model_type is `\"qwen2_moe\"`, must be `llama`, `qwen2` or `qwen3`")
}

#[test]
fn files_of_weights_that_do_not_belong_together_are_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let fresh = |name: &str| copy(&path("llama"), &sandbox.path(name));
    fresh("short")?;
    std::fs::remove_file(sandbox.path("short/model-00002-of-00003.safetensors"))?;
    refused(&sandbox, "short", &["short/model-00002-of-00003.safetensors`: "])?;
    let index = |name: &str, to: &str| -> anyhow::Result<()> {
        fresh(name)?;
        let file = format!("{name}/model.safetensors.index.json");
        let text = sandbox.read(&file)?;
        let from = "\"lm_head.weight\": \"model-00003-of-00003.safetensors\"";
        anyhow::ensure!(text.contains(from), "{text}");
        sandbox.write(&file, text.replace(from, to))
    };
    index("elsewhere", "\"lm_head.weight\": \"../model.safetensors\"")?;
    refused(
        &sandbox,
        "elsewhere",
        &["tensor `lm_head.weight` is in `../model.safetensors`, must be in a .safetensors"],
    )?;
    index("swapped", "\"lm_head.weight\": \"model-00002-of-00003.safetensors\"")?;
    refused(&sandbox, "swapped", &["tensor `lm_head.weight` is not in `model-00002-of-00003.safetensors`"])?;
    fresh("broken")?;
    sandbox.write("broken/model.safetensors.index.json", "{}")?;
    refused(&sandbox, "broken", &["`broken/model.safetensors.index.json` is not a valid"])
}

#[test]
fn gguf_files_are_refused_by_key() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let file = GgufFile::open(&path("mixed.gguf"))?;
    let tensors: Vec<TensorSource<'_>> = file
        .tensors
        .iter()
        .map(|(name, info)| {
            let TensorType::Grid(grid) = info.kind else { anyhow::bail!("{name} has an unknown type") };
            let (shape, values) = (info.shape.clone(), file.tensor(name)?.into());
            Ok(TensorSource { name: name.clone(), shape, grid, values, importance: None })
        })
        .collect::<anyhow::Result<_>>()?;
    let text = |text: &str| Value::String(text.to_owned());
    let cases = [
        ("general.architecture", text("gemma3"), "is `gemma3`, must be `llama`, `qwen2` or `qwen3`"),
        ("tokenizer.ggml.model", text("llama"), "is `llama`, must be `gpt2`: only byte-level BPE is read"),
        ("tokenizer.ggml.pre", text("tekken"), "is `tekken`, must be one of gpt-2, phi-2, olmo"),
        (
            "tokenizer.ggml.token_type",
            Value::integers([1, 1]),
            "is `2`, must be `125` whole numbers, one for each token",
        ),
        ("tokenizer.ggml.eos_token_id", Value::U32(125), "is `125`, must be below the number of tokens, `125`"),
        ("tokenizer.ggml.merges", Value::strings(["ab".to_owned()]), "is `ab`, must be two tokens with a space"),
        ("tokenizer.ggml.tokens", Value::U8(3), "is `3`, must be a list"),
        ("tokenizer.ggml.add_bos_token", Value::U8(1), "is `1`, must be a boolean"),
    ];
    for (key, value, rule) in cases {
        let metadata: Vec<(String, Value)> =
            file.metadata.iter().map(|(k, v)| (k.clone(), if k == key { value.clone() } else { v.clone() })).collect();
        write_container(&sandbox.path("other.gguf"), &metadata, &tensors)?;
        refused(&sandbox, "other.gguf", &[&format!("`other.gguf`: {key} {rule}")])?;
    }
    sandbox.write("other.gguf", "no model")?;
    refused(&sandbox, "other.gguf", &["`other.gguf` is not a valid GGUF file: at byte 4"])?;
    refused(&sandbox, "none.gguf", &["`none.gguf` does not exist"])
}

/// Bytes of the header changed at random, and files cut short: an answer, never a crash or more memory than the file has.
#[test]
fn nonsense_in_a_gguf_file_is_answered() -> anyhow::Result<()> {
    let whole = std::fs::read(path("mixed.gguf"))?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("nonsense.gguf");
    let mut numbers = Numbers::new(77);
    let (mut refused, tries) = (0, 600);
    for _ in 0..tries {
        let mut bytes = whole.clone();
        // The header ends long before 8 KiB; three quarters of the changes are there.
        for _ in 0..1 + numbers.below(3) {
            let limit = if numbers.below(4) == 0 { bytes.len() } else { 8192 };
            let place = numbers.below(limit) as usize;
            match numbers.below(3) {
                0 => bytes[place] = 0xff,
                1 => bytes[place] = numbers.below(256) as u8,
                _ => bytes[place..place + 8].fill(0xff),
            }
            bytes.resize(bytes.len().max(whole.len()), 0);
        }
        if numbers.below(4) == 0 {
            bytes.truncate(numbers.below(whole.len()) as usize);
        }
        std::fs::write(&file, &bytes)?;
        let (model, tokenizer) = (read_gguf(&file), read_gguf_tokenizer(&file));
        refused += usize::from(model.is_err() || tokenizer.is_err());
    }
    anyhow::ensure!(refused > tries / 2, "only {refused} of {tries} were refused");
    Ok(())
}

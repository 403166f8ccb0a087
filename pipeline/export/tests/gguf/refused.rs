//! Models and files that are refused, by name.

use std::fs;

use limbeck_config::Architecture;
use limbeck_export::gguf::Value;
use limbeck_export::{ExportError, GgufType, read_gguf, write_gguf};
use limbeck_model::NamedTensors;

use crate::{Parts, config, golden, tensor, tensors};

fn write_error(tensors: &NamedTensors) -> ExportError {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.gguf");
    let config = config(Architecture::Qwen3, true);
    let error = write_gguf(&path, &config, tensors, &golden("tokenizer"), GgufType::F16).expect_err("not this model");
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "something was left");
    error
}

fn read_error(parts: &Parts) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.gguf");
    parts.write(&path);
    read_gguf(&path).expect_err("not this model").to_string().replace(&path.display().to_string(), "PATH")
}

#[test]
fn weights_that_are_not_the_models_are_not_written() {
    let given = tensors(&config(Architecture::Qwen3, true));
    let mut missing = given.clone();
    missing.remove("model.layers.1.mlp.up_proj.weight");
    assert_eq!(
        write_error(&missing).to_string(),
        "tensor `model.layers.1.mlp.up_proj.weight` is missing; hint: the weights belong to another configuration"
    );
    let mut unknown = given.clone();
    unknown.insert("lm_head.weight".to_owned(), tensor(0, &[23, 32]));
    assert!(write_error(&unknown).to_string().starts_with("tensor `lm_head.weight` has no place in this model"));
    let mut turned = given.clone();
    turned.insert("model.layers.0.self_attn.q_proj.weight".to_owned(), tensor(0, &[32, 30]));
    let error = write_error(&turned).to_string();
    assert!(error.contains("q_proj.weight` has shape [32, 30], must be [30, 32]"), "{error}");
    let mut large = given;
    large.insert("model.layers.1.mlp.down_proj.weight".to_owned(), {
        let mut tensor = tensor(0, &[32, 64]);
        tensor.values[64 * 3 + 5] = -1e5;
        tensor
    });
    let error = write_error(&large).to_string();
    assert!(
        error.starts_with("tensor `blk.1.ffn_down.weight`: row 3, column 5 is `-100000`, the magnitude"),
        "{error}"
    );
}

#[test]
fn files_whose_tensors_are_not_those_of_their_metadata_are_refused() {
    let mut parts = Parts::of("llama-untied-f32.gguf");
    parts.tensors.retain(|tensor| tensor.name != "blk.0.attn_k.weight");
    assert!(read_error(&parts).starts_with("tensor `blk.0.attn_k.weight` is missing"));
    let mut parts = Parts::of("llama-untied-f32.gguf");
    parts.tensors[0].name = "rope_freqs.weight".to_owned();
    assert!(read_error(&parts).starts_with("tensor `rope_freqs.weight` has no place in this model"));
    let mut parts = Parts::of("llama-untied-f32.gguf");
    parts.set("llama.feed_forward_length", Value::U32(63));
    assert!(read_error(&parts).contains("`blk.0.ffn_gate.weight` has shape [64, 32], must be [63, 32]"));
}

#[test]
fn metadata_that_the_decoder_cannot_follow_is_refused_by_key() {
    let cases = [
        (
            "general.architecture",
            Value::String("gemma3".to_owned()),
            "is `gemma3`, must be `llama`, `qwen2` or `qwen3`",
        ),
        ("qwen3.block_count", Value::U32(4_000_000_000), "must be at most the number of tensors, `24`"),
        ("qwen3.block_count", Value::F32(2.0), "must be a whole number of at least 1"),
        ("qwen3.embedding_length", Value::I32(-32), "is `-32`, must be a whole number of at least 1"),
        ("qwen3.attention.head_count", Value::U32(0), "is `0`, must be a whole number of at least 1"),
        ("qwen3.attention.head_count_kv", Value::U32(2), "must divide the `3` of attention.head_count"),
        ("qwen3.attention.head_count_kv", Value::integers([1, 1]), "2 values of type I32`, must be a whole number"),
        ("qwen3.attention.key_length", Value::U32(9), "must be even"),
        ("qwen3.attention.value_length", Value::U32(8), "must be the `10` of qwen3.attention.key_length"),
        ("qwen3.rope.dimension_count", Value::U32(8), "must be the `10` of qwen3.attention.key_length"),
        ("qwen3.rope.freq_base", Value::F32(f32::NAN), "is `NaN`, must be a 32-bit float above 0"),
        ("qwen3.rope.scaling.type", Value::String("yarn".to_owned()), "is `yarn`, must be `none`"),
        ("qwen3.expert_count", Value::U32(8), "is `8`, must be 0"),
    ];
    for (key, value, rule) in cases {
        let mut parts = Parts::of("qwen3-tied-q8_0.gguf");
        parts.set(key, value);
        let error = read_error(&parts);
        assert!(error.starts_with(&format!("`PATH`: {key} ")) && error.contains(rule), "{error}");
    }
    let mut parts = Parts::of("qwen3-tied-q8_0.gguf");
    parts.metadata.retain(|(key, _)| key != "qwen3.context_length");
    assert_eq!(
        read_error(&parts),
        "`PATH`: qwen3.context_length is `missing`, must be given; hint: use a file of a plain Llama, Qwen2 or Qwen3 decoder"
    );
}

#[test]
fn a_type_that_is_not_read_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.gguf");
    let mut bytes = fs::read(golden("qwen3-tied-q8_0.gguf")).expect("a golden file");
    // After a name, two sizes and their number: the type of the first tensor, Q8_0, becomes Q2_K.
    let name = b"token_embd.weight";
    let place = bytes.windows(name.len()).position(|window| window == name).expect("a name") + name.len() + 4 + 16;
    assert_eq!(bytes[place], 8);
    bytes[place] = 10;
    fs::write(&path, bytes).expect("a writable directory");
    let error = read_gguf(&path).expect_err("no Q2_K").to_string();
    assert!(
        error.contains("token_embd.weight is `Q2_K`, must be one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, "),
        "{error}"
    );
}

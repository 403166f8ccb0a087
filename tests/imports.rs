//! What `export-model` wrote is the same model for every command that takes one.

use anyhow::{Context, ensure};
use burn::tensor::Device;
use limbeck::source::model_at;
use limbeck_model::fingerprint;
use serde_json::Value;

use crate::support::sandbox::{Sandbox, TEACHER};

/// What the commands make of a model: the hash of its weights, a text, a loss, and the weights after some steps of
/// `sft`.
#[derive(Debug, PartialEq)]
struct Uses {
    fingerprint: String,
    text: String,
    loss_nats: Value,
    tuned: Vec<u8>,
}

fn uses(sandbox: &Sandbox, from: &str) -> anyhow::Result<Uses> {
    let fingerprint = fingerprint(&model_at(&sandbox.path(from), &Device::flex())?);
    let prompt = ["--from", from, "--prompt", "Anna went", "--max-new-tokens", "12"];
    let text = sandbox.run("generate", &prompt)?.complete()?;
    let data = ["--from", from, "--data", "data/tiny/valid.parquet", "--sequence-length", "48"];
    let score: Value = serde_json::from_str(&sandbox.run("evaluate", &data)?.complete()?)?;
    let out = format!("tuned/{}", from.replace('/', "-"));
    let start = format!("start={{ kind = 'checkpoint', from = '{from}' }}");
    let step = sandbox
        .stage("sft", &["--out", &out, "--set", &start, "--set", "data.valid=[]", "--set", "train.eval_every="])?;
    let tuned = std::fs::read(sandbox.path(&step.complete()?).join("model.safetensors"))?;
    Ok(Uses { fingerprint, text, loss_nats: score["loss_nats"].clone(), tuned })
}

fn export(sandbox: &Sandbox, from: &str, out: &str, formats: &str) -> anyhow::Result<String> {
    let (from, formats) = (format!("export.from={from}"), format!("export.formats={formats}"));
    sandbox.stage("export-model", &["--out", out, "--set", &from, "--set", &formats])?.complete()
}

#[test]
fn exports_in_32_bits_are_the_checkpoint() -> anyhow::Result<()> {
    for architecture in ["qwen3", "llama", "qwen2"] {
        let sandbox = Sandbox::prepared()?;
        let step = sandbox.stage("pretrain", &["--set", &format!("model.architecture={architecture}")])?.complete()?;
        export(&sandbox, TEACHER, "exported", r#"["hugging_face", "gguf_f32"]"#)?;
        let expected = uses(&sandbox, &step)?;
        for exported in ["exported/hugging-face", "exported/model-f32.gguf"] {
            ensure!(uses(&sandbox, exported)? == expected, "{exported} of a {architecture}");
        }
    }
    Ok(())
}

/// That they are decoded as others decode them is tested beside the encoders and by the clients.
#[test]
fn rounded_exports_are_the_model_of_their_decoded_weights() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    // Rows of whole blocks and groups.
    let shape = ["architecture='llama'", "hidden_size=64", "intermediate_size=128", "head_dim=32"];
    let sets: Vec<String> = shape.into_iter().map(|key| format!("model.{key}")).collect();
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let step = sandbox.stage("pretrain", &sets)?.complete()?;
    let original = uses(&sandbox, &step)?;
    export(&sandbox, &step, "exported", r#"["gguf_q8_0", "gguf_q4_0", "mlx_q8", "mlx_q4"]"#)?;
    for name in ["model-q8_0.gguf", "model-q4_0.gguf", "mlx-q8", "mlx-q4"] {
        let (exported, decoded) = (format!("exported/{name}"), format!("decoded-{name}"));
        export(&sandbox, &exported, &decoded, r#"["hugging_face"]"#)?;
        let found = uses(&sandbox, &exported)?;
        ensure!(found == uses(&sandbox, &format!("{decoded}/hugging-face"))?, "{name} is not what it decodes to");
        ensure!(found.fingerprint != original.fingerprint && found.tuned != original.tuned, "{name} has lost nothing");
        let loss = |uses: &Uses| uses.loss_nats.as_f64().context("a number");
        ensure!((loss(&found)? - loss(&original)?).abs() < 0.1, "{name}: {found:?}");
    }
    Ok(())
}

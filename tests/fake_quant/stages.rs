//! The stages with `train.fake_quant`.

use std::process::Command;

use limbeck_config::FakeQuantSection;
use limbeck_model::{load_directory, parameters};
use serde_json::Value;

use crate::support::devices::cpu;
use crate::support::files::hashes;
use crate::support::interruption::{signal, steps_logged};
use crate::support::outcome::Outcome;
use crate::support::sandbox::Sandbox;

/// Heads and channels in whole blocks, neurons not.
const SHAPE: [&str; 4] =
    ["model.hidden_size=32", "model.intermediate_size=40", "model.num_attention_heads=2", "model.head_dim=16"];
const GRID: &str = "train.fake_quant={weights=\"q4_0\", activations=\"int8\"}";

fn pretrain(sandbox: &Sandbox, run: &str, more: &[&str]) -> Command {
    let sets = SHAPE.iter().chain(&[GRID]).flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = sets.chain(["--out", run]).chain(more.iter().copied()).collect();
    sandbox.stage_command("pretrain", &arguments)
}

fn last_row(sandbox: &Sandbox, run: &str) -> anyhow::Result<Value> {
    let text = sandbox.read(&format!("{run}/metrics.jsonl"))?;
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

fn evaluated(sandbox: &Sandbox, from: &str) -> anyhow::Result<f64> {
    let scores = sandbox.run("evaluate", &["--from", from, "--data", "data/tiny/valid.parquet"])?.complete()?;
    let scores: Value = serde_json::from_str(&scores)?;
    Ok(scores["bits_per_byte"].as_f64().unwrap_or(f64::NAN))
}

/// From the config to the file: what is said, what is saved, and that what was scored in training is what ships.
#[test]
fn the_weights_that_are_scored_are_the_ones_that_ship() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let trained = Outcome::of(&mut pretrain(&sandbox, "run", &[]))?;
    trained.says(&[
        "fake quant: model.layers.0.mlp.down_proj.weight and 1 more: F16, not Q4_0: its rows of 40 values are not whole blocks \
         of 32",
        "fake quant: model.embed_tokens.weight: Q8_0, not Q6_K: its rows of 32 values are not whole blocks of 256",
        "and 11 more: Q4_0",
        "held-out losses are those of the rounded weights",
        "bits/byte in q4_0",
    ])?;
    let step = trained.complete()?;
    let section: FakeQuantSection = serde_json::from_str(&sandbox.read(&format!("{step}/fake_quant.json"))?)?;
    let masters = load_directory(&sandbox.path(&step), &cpu())?;
    assert_eq!(masters.fake_quant(), Some(&section));

    let formats = "export.formats=[\"hugging_face\", \"gguf_f32\", \"gguf_q4_0\", \"gguf_q8_0\"]";
    let from = format!("export.from={step}");
    let exported = sandbox.stage("export-model", &["--set", formats, "--set", &from])?;
    exported.says(&[
        "gguf_q4_0: 15 of 15 matrices are, bit for bit, those of the training (train.fake_quant)\n",
        "hugging_face: 15 of 15 matrices are",
        "gguf_f32: 15 of 15 matrices are",
        // The embedding, which training had in Q8_0 too, and Q4_0's values that Q8_0 happens to hold.
        "hint: gguf_q4_0 is what was trained for",
    ])?;
    let export = exported.complete()?;
    let hugging_face = load_directory(&sandbox.path(&format!("{export}/hugging-face")), &cpu())?;
    assert_eq!((parameters(&hugging_face), hugging_face.fake_quant()), (parameters(&masters.on_grid()?), None));
    assert_ne!(parameters(&hugging_face), parameters(&masters));

    let row = last_row(&sandbox, "run")?;
    assert_eq!(row["valid_weights"], "q4_0");
    let in_training = row["valid_bits_per_byte"].as_f64().unwrap_or(f64::NAN);
    // A checkpoint is evaluated as what it computes, rounded inputs included.
    let again = evaluated(&sandbox, &step)?;
    // Other batches: 32-bit sums in another order.
    assert!((again - in_training).abs() < 1e-6 * in_training, "{again} {in_training}");
    let shipped = evaluated(&sandbox, &format!("{export}/model-q4_0.gguf"))?;
    // Inputs in 8 bits are all that the file does not say.
    assert!((shipped - in_training).abs() < 1e-3 * in_training, "{shipped} {in_training}");
    std::fs::remove_file(sandbox.path(&format!("{step}/fake_quant.json")))?;
    std::fs::remove_file(sandbox.path(&format!("{step}/manifest.json")))?;
    std::fs::rename(sandbox.path(&step), sandbox.path("masters"))?;
    assert_ne!(evaluated(&sandbox, "masters")?, shipped);
    Ok(())
}

#[test]
fn an_interrupted_run_on_the_grid_equals_the_uninterrupted_one() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    Outcome::of(&mut pretrain(&sandbox, "whole", &[]))?.complete()?;
    let ended = signal(&mut pretrain(&sandbox, "cut", &[]), "KILL", || steps_logged(&sandbox, "cut") >= 5)?;
    assert!(ended.is_some_and(|ended| ended.status == 137), "killed on its way");
    Outcome::of(&mut pretrain(&sandbox, "cut", &["--resume"]))?.complete()?;
    let last = |run: &str| hashes(&sandbox.path(run).join("step-00000012"));
    assert_eq!(last("cut")?, last("whole")?);
    Ok(())
}

/// A checkpoint in full precision is start and teacher at once; without the section the next stage trains the masters as they
/// are.
#[test]
fn a_student_goes_on_from_its_teacher_and_leaves_the_grid_again() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let shape: Vec<&str> = SHAPE.iter().flat_map(|set| ["--set", set]).collect();
    sandbox.stage("pretrain", &shape)?.complete()?;
    let teacher = "checkpoints/trial/teacher";
    let distill = |out: &str, from: &str, more: &[&str]| {
        let sets = [format!("start={{kind=\"checkpoint\", from=\"{from}\"}}"), format!("teacher.from={teacher}")];
        let sets = ["model=", &sets[0], &sets[1], "train.eval_every=6"].into_iter().chain(more.iter().copied());
        let sets: Vec<&str> = sets.flat_map(|set| ["--set", set]).collect();
        sandbox.stage("distill", &[&["--out", out], &sets[..]].concat())?.complete()
    };
    distill("on-grid", teacher, &["train.fake_quant={weights=\"q8_0\"}"])?;
    assert!(sandbox.path("on-grid/gap.json").exists());
    let off = distill("off-grid", "on-grid", &[])?;
    assert!(!sandbox.path(&off).join("fake_quant.json").exists());
    assert_eq!(last_row(&sandbox, "off-grid")?["valid_weights"], Value::Null);
    let checked = sandbox.stage("pretrain", &[&shape[..], &["--check", "--set", GRID]].concat())?;
    checked.says(&["of it, fake quant", "s a step, measured"])?;
    assert!(checked.complete()?.contains("[train.fake_quant]\nweights = \"q4_0\"\nactivations = \"int8\"\n"));
    Ok(())
}

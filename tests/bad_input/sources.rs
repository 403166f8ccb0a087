//! Models that a config names.

use crate::support::files::{copy, damage, hashes};
use crate::support::outcome::Outcome;
use crate::support::sandbox::{SFT, STUDENT, Sandbox, TEACHER};

const SFT_STEPS: [&str; 2] = ["checkpoints/trial/sft/step-00000008", "checkpoints/trial/sft/step-00000012"];
const TEACHER_STEPS: [&str; 2] = ["checkpoints/trial/teacher/step-00000008", "checkpoints/trial/teacher/step-00000012"];

/// Refused, no run begun, and everything as it was.
fn refused(sandbox: &Sandbox, stage: &str, arguments: &[&str], fragments: &[&str]) -> anyhow::Result<()> {
    let before = hashes(&sandbox.path("checkpoints"))?;
    sandbox.stage(stage, &[&["--out", "refused"][..], arguments].concat())?.refused(2, fragments)?;
    assert_eq!(hashes(&sandbox.path("checkpoints"))?, before);
    assert_eq!(hashes(&sandbox.path("refused"))?.len(), 0);
    Ok(())
}

/// Another tokenizer, of `entries` entries.
fn other_tokenizer(sandbox: &Sandbox, entries: usize) -> anyhow::Result<()> {
    let size = format!("tokenizer.vocab_size={entries}");
    let sets = ["--set", "corpus=", "--set", "tokenizer.path=data/other", "--set", &size];
    sandbox.stage("prepare", &sets)?.complete()?;
    Ok(())
}

#[test]
fn a_model_that_is_not_there_is_named_with_its_key() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let missing = |key| format!("{key} is `checkpoints/trial/");
    refused(&sandbox, "sft", &[], &[&missing("start.from"), "does not exist", "hint: "])?;
    refused(&sandbox, "distill", &[], &[&missing("teacher.from"), "does not exist", "hint: "])?;
    refused(&sandbox, "export-model", &[], &[&missing("export.from"), "does not exist", "hint: "])?;
    let generate = sandbox.run("generate", &["--from", "data", "--prompt", "a"])?;
    generate.refused(2, &["--from is `data`", "`data` is no .gguf file and holds neither `config.json`", "hint: "])
}

#[test]
fn a_damaged_step_is_refused_where_it_is_named() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let file = format!("{}/model.safetensors", TEACHER_STEPS[1]);
    damage(&sandbox.path(&file))?;
    let from = format!("start.from={}", TEACHER_STEPS[1]);
    refused(
        &sandbox,
        "sft",
        &["--set", &from],
        &["start.from is `", &format!("`{file}` has BLAKE3 hash `"), "hint: "],
    )?;
    std::fs::remove_file(sandbox.path(&file))?;
    refused(&sandbox, "sft", &["--set", &from], &[&format!("`{file}` is missing but listed in `manifest.json`")])
}

#[test]
fn the_step_before_a_damaged_one_is_taken_visibly() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    damage(&sandbox.path(TEACHER_STEPS[1]).join("tokenizer.json"))?;
    std::fs::remove_file(sandbox.path(SFT_STEPS[1]).join("model.safetensors"))?;
    let skipped = |step| format!("warning: skipped checkpoint `{step}`: ");
    let parent = |outcome: Outcome, skipped: &str, key: &str, expected: &str| -> anyhow::Result<()> {
        outcome.says(&[skipped])?;
        let manifest = sandbox.read(&format!("{}/manifest.json", outcome.complete()?))?;
        let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
        assert_eq!(manifest[key]["path"], expected);
        Ok(())
    };
    let outcome = sandbox.stage("sft", &["--out", "again"])?;
    parent(outcome, &skipped(TEACHER_STEPS[1]), "parent", TEACHER_STEPS[0])?;
    let outcome = sandbox.stage("distill", &[])?;
    parent(outcome, &skipped(SFT_STEPS[1]), "teacher", SFT_STEPS[0])?;
    sandbox.run("generate", &["--from", SFT, "--prompt", "a"])?.says(&[&skipped(SFT_STEPS[1])])
}

#[test]
fn a_run_whose_steps_are_all_damaged_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    for step in SFT_STEPS {
        damage(&sandbox.path(step).join("model.safetensors"))?;
    }
    for step in TEACHER_STEPS {
        std::fs::remove_file(sandbox.path(step).join("manifest.json"))?;
    }
    let none = |run| format!("run directory `{run}` has no checkpoint that verifies");
    refused(&sandbox, "distill", &[], &["teacher.from is `", &none(SFT), "hint: "])?;
    refused(&sandbox, "sft", &[], &["start.from is `", &none(TEACHER), "manifest.json", "hint: "])?;
    refused(&sandbox, "export-model", &["--set", &format!("export.from={SFT}")], &["export.from is `", &none(SFT)])
}

#[test]
fn a_tokenizer_with_more_entries_than_the_model_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    other_tokenizer(&sandbox, 433)?;
    copy(&sandbox.path(TEACHER_STEPS[1]), &sandbox.path("mixed"))?;
    std::fs::remove_file(sandbox.path("mixed/manifest.json"))?;
    std::fs::copy(sandbox.path("data/other/tokenizer.json"), sandbox.path("mixed/tokenizer.json"))?;
    let message = "`mixed`: its tokenizer has `433` entries, must be at most the model's vocab_size = `420`; hint: ";
    refused(&sandbox, "sft", &["--set", "start.from=mixed"], &["start.from is `mixed`", message])?;
    refused(&sandbox, "distill", &["--set", "teacher.from=mixed"], &["teacher.from is `mixed`", message])?;
    let generate = sandbox.run("generate", &["--from", "mixed", "--prompt", "a"])?;
    generate.refused(2, &["--from is `mixed`", message])
}

#[test]
fn a_teacher_and_a_student_with_different_tokenizers_are_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    // More merges of the same corpus: its first token too many is the first of the ids that the teacher does not have.
    other_tokenizer(&sandbox, 433)?;
    let other = ["--set", "data.tokenizer=data/other/tokenizer.json"];
    let differ = ["the tokenizers differ", "its token `", "(id `420`) is not in the other", "hint: "];
    refused(&sandbox, "distill", &other, &[&["data.tokenizer", "teacher.from"], &differ[..]].concat())?;
    // The control reads no teacher.
    sandbox.stage("distill", &[&["--control"], &other[..]].concat())?.complete()?;
    let differ = ["the tokenizers differ: ", "` ids have other tokens: id `", "hint: "];
    refused(&sandbox, "sft", &other, &[&["data.tokenizer", "start.from"], &differ[..]].concat())
}

#[test]
fn a_sequence_longer_than_the_models_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let long = ["--set", "data.sequence_length=96", "--set", "train.tokens_per_step=576"];
    let rule = |key| format!("data.sequence_length is `96`, must be at most `48`, max_position_embeddings of {key}");
    refused(&sandbox, "sft", &long, &[&rule("start.from"), "hint: "])?;
    refused(&sandbox, "distill", &long, &[&rule("teacher.from"), "hint: "])
}

#[test]
fn foreign_directories_are_refused_by_what_is_wrong_in_them() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let broken = |name: &str, file: &str, from: &str, to: &str, fragment: &str| -> anyhow::Result<()> {
        copy(&sandbox.path(TEACHER_STEPS[1]), &sandbox.path(name))?;
        std::fs::remove_file(sandbox.path(name).join("manifest.json"))?;
        let file = format!("{name}/{file}");
        let text = sandbox.read(&file)?;
        anyhow::ensure!(text.contains(from), "`{from}` is not in {file}");
        sandbox.write(&file, text.replace(from, to))?;
        refused(&sandbox, "sft", &["--set", &format!("start.from={name}")], &["start.from is `", fragment, "hint: "])
    };
    broken("kind", "config.json", "\"qwen3\"", "\"gpt2\"", "`kind/config.json`: model_type is `\"gpt2\"`, must be")?;
    broken("json", "config.json", "{", "", "`json/config.json` is not")?;
    broken("wide", "config.json", "\"hidden_size\": 18", "\"hidden_size\": 20", "describes `")?;
    broken("heads", "config.json", "\"head_dim\": 8", "\"head_dim\": 7", "head_dim is `7`, must be even")?;
    broken("deep", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "describes `")?;
    broken("shallow", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "model.layers.1.")?;
    broken("tokens", "tokenizer.json", "{", "", "`tokens/tokenizer.json` is not a readable tokenizer")?;
    broken("words", "tokenizer.json", "<|endoftext|>", "<|end|>", "has no begin-of-text token")?;
    broken("narrow", "config.json", "\"hidden_size\": 18", "\"hidden_size\": 16", "has shape `[")?;
    let (huge, message) = ("\"vocab_size\": 4000000000", "parameters, the weights beside it hold `12218`");
    broken("huge", "config.json", "\"vocab_size\": 420", huge, message)
}

#[test]
fn weights_that_are_no_safetensors_are_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    copy(&sandbox.path(TEACHER_STEPS[1]), &sandbox.path("plain"))?;
    std::fs::remove_file(sandbox.path("plain/manifest.json"))?;
    let whole = std::fs::read(sandbox.path("plain/model.safetensors"))?;
    for bytes in [&b"weights"[..], &whole[..whole.len() / 2], &[0xff; 64]] {
        sandbox.write("plain/model.safetensors", bytes)?;
        let message = "`plain/model.safetensors` is not a valid safetensors file: ";
        refused(&sandbox, "sft", &["--set", "start.from=plain"], &[message, "hint: "])?;
    }
    Ok(())
}

#[test]
fn an_export_of_another_checkpoint_is_left_alone() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft", "distill", "export-model"])?;
    let before = hashes(&sandbox.path("checkpoints/trial/export"))?;
    let other = ["--set", &format!("export.from={SFT}")];
    let message = format!("`checkpoints/trial/export` already holds the export of `{STUDENT}/step-00000012`");
    sandbox.stage("export-model", &other)?.refused(2, &[&message, "hint: "])?;
    let formats = ["--set", r#"export.formats=["gguf_q8_0"]"#];
    sandbox
        .stage("export-model", &formats)?
        .refused(2, &["already holds an export", "without `gguf_q8_0`", "hint: "])?;
    assert_eq!(hashes(&sandbox.path("checkpoints/trial/export"))?, before);
    Ok(())
}

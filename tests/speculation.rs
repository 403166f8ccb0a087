//! `evaluate --draft`.

use anyhow::Context;
use limbeck::source;
use serde_json::Value;

use crate::support::devices::cpu;
use crate::support::sandbox::{SFT, STUDENT, Sandbox, TEACHER};

const CHATS: [&str; 4] = ["--data", "data/tiny/valid.parquet", "--max-new-tokens", "20"];

fn report(sandbox: &Sandbox, from: &str, draft: &str, more: &[&str]) -> anyhow::Result<Value> {
    let arguments = [&["--from", from, "--draft", draft][..], &CHATS, more].concat();
    Ok(serde_json::from_str(&sandbox.run("evaluate", &arguments)?.complete()?)?)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[test]
fn a_model_accepts_all_of_its_own_drafts() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let report = report(&sandbox, TEACHER, TEACHER, &["--draft-tokens", "1,3"])?;
    for name in ["greedy", "sampled"] {
        let found = &report[name];
        // Sums of probabilities in 32 bits.
        assert!((number(&found["acceptance"]) - 1.0).abs() < 1e-5, "{found}");
        for (blocks, draft_tokens) in found["blocks"].as_array().context("blocks")?.iter().zip([1.0, 3.0]) {
            // Twenty tokens are ten blocks of two, or five of four.
            assert_eq!(number(&blocks["draft_tokens"]), draft_tokens);
            assert!((number(&blocks["expected_tokens_per_block"]) - draft_tokens - 1.0).abs() < 1e-4, "{blocks}");
            // It takes as long as the model itself, for each draft and for the check.
            assert!((number(&blocks["expected_speed_up"]) - 1.0).abs() < 1e-4, "{blocks}");
        }
    }
    assert_eq!((number(&report["cost_ratio"]), &report["parameters"]), (1.0, &report["draft_parameters"]));
    Ok(())
}

#[test]
fn a_student_of_the_teacher_drafts_better_than_one_that_has_learned_nothing() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    // Long enough that the teacher prefers some tokens to others.
    for stage in ["pretrain", "sft", "distill"] {
        sandbox.stage(stage, &["--set", "train.max_steps=80", "--set", "optimizer.learning_rate=1e-2"])?.complete()?;
    }
    let untrained =
        ["--out", "untrained", "--control", "--set", "optimizer.learning_rate=1e-30", "--set", "train.max_steps=1"];
    sandbox.stage("distill", &[&untrained[..], &["--set", "schedule.warmup_steps=0"]].concat())?.complete()?;
    let (taught, random) = (report(&sandbox, SFT, STUDENT, &[])?, report(&sandbox, SFT, "untrained", &[])?);
    for name in ["greedy", "sampled"] {
        let acceptance = |report: &Value| number(&report[name]["acceptance"]);
        assert!(acceptance(&taught) > acceptance(&random), "{name}: {taught} {random}");
    }
    // Parameters, as the files have them.
    let count = |run: &str| -> anyhow::Result<u64> {
        let source = source::open(run, &sandbox.path(run), &cpu()).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(source.model.config().parameter_count() as u64)
    };
    assert_eq!(
        (taught["parameters"].as_u64(), taught["draft_parameters"].as_u64()),
        (Some(count(SFT)?), Some(count(STUDENT)?))
    );
    assert_eq!(taught, report(&sandbox, SFT, STUDENT, &[])?, "it is a function of its arguments");
    Ok(())
}

#[test]
fn what_cannot_draft_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let refused = |draft: &str, more: &[&str], fragments: &[&str]| {
        let arguments = [&["--from", TEACHER, "--draft", draft][..], &CHATS, more].concat();
        sandbox.run("evaluate", &arguments)?.refused(2, fragments)
    };
    sandbox
        .stage(
            "prepare",
            &["--set", "corpus=", "--set", "tokenizer.path=data/other", "--set", "tokenizer.vocab_size=330"],
        )?
        .complete()?;
    sandbox.stage("pretrain", &["--out", "other", "--set", "data.tokenizer=data/other"])?.complete()?;
    refused(
        "other",
        &[],
        &["--draft `other/", "cannot draft for --from `checkpoints/trial/teacher/", "the tokenizers differ"],
    )?;
    refused("nowhere", &[], &["--draft is `nowhere`"])?;
    refused(TEACHER, &["--temperature", "0"], &["--temperature is `0`, must be a number over `0`", "hint: "])?;
    refused(TEACHER, &["--prompts", "0"], &["--prompts is `0`"])?;
    refused(TEACHER, &["--draft-tokens", "4,0"], &["'0'", "--draft-tokens"])?;
    refused(TEACHER, &["--answers", "3"], &["cannot be used with"])?;
    let long = ["--from", TEACHER, "--draft", TEACHER, "--data", "data/tiny/valid.parquet", "--max-new-tokens", "48"];
    sandbox
        .run("evaluate", &long)?
        .refused(2, &["has no prompt that leaves `48` tokens of the context of `48`", "hint: "])
}

#[test]
fn an_exported_student_comes_with_the_command_that_pairs_it_with_its_teacher() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft", "distill"])?;
    sandbox.stage("export-model", &[])?.says(&[
        "llama-server -m TEACHER.gguf -md checkpoints/trial/export/model-f32.gguf",
        "`--set export.from=checkpoints/trial/sft",
    ])?;
    // A model without a teacher has nobody to help.
    let alone = ["--out", "alone", "--set", "export.from=checkpoints/trial/teacher"];
    let alone = sandbox.stage("export-model", &alone)?;
    assert!(!alone.stderr.contains("llama-server"), "{}", alone.stderr);
    Ok(())
}

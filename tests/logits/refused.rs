//! What is not of the data, the tokenizer, the teacher or the loss in hand is refused by name, before the first step.

use super::{CACHE, FULL, TOP_K, capture, distill};
use crate::support::files::{damage, hashes, names};
use crate::support::sandbox::Sandbox;

/// Refused, and no run begun.
fn refused(sandbox: &Sandbox, sets: &[&str], fragments: &[&str]) -> anyhow::Result<()> {
    distill(sandbox, &["--out", "refused"], &[&[CACHE], sets].concat())?.refused(2, fragments)?;
    assert_eq!(hashes(&sandbox.path("refused"))?.len(), 0);
    Ok(())
}

#[test]
fn a_cache_of_something_else_is_refused_by_name() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    capture(&sandbox, &[])?;
    let is = |key: &str| format!("logits cache `cache` has identity.{key} `");
    let teacher = "teacher.from=checkpoints/trial/teacher";
    refused(&sandbox, &[teacher], &["teacher.logits: ", &is("teacher"), "another teacher", "hint: "])?;
    let alone = "teacher.from=";
    let order =
        "data.train=[{path=\"data/tiny/chats-train.parquet\", kind=\"chats\"}, {path=\"data/tiny/train.parquet\"}]";
    refused(&sandbox, &[alone, order], &[&is("data"), "other data, or data in another order", "hint: "])?;
    let length = ["data.sequence_length=36", "train.tokens_per_step=288"];
    refused(&sandbox, &[&[alone], &length[..]].concat(), &[&is("sequence_length"), "`48`, must be `36`", "hint: "])?;
    let sets = ["--set", "corpus=", "--set", "tokenizer.path=data/other", "--set", "tokenizer.vocab_size=411"];
    sandbox.stage("prepare", &sets)?.complete()?;
    let tokenizer = "data.tokenizer=data/other/tokenizer.json";
    refused(&sandbox, &[alone, tokenizer], &[&is("tokenizer"), "another tokenizer", "hint: "])
}

#[test]
fn a_loss_that_the_codec_cannot_give_is_refused_with_the_reason() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let reverse = "distill.divergence.kind=reverse_kl";
    let temperature = "distill.temperature=2.0";
    let other = "and has nothing about temperature `2`; hint: set distill.temperature to `1.5`";
    capture(&sandbox, &[])?;
    refused(&sandbox, &[reverse], &["captured with random_sampling", "unbiased for forward KL alone", "hint: "])?;
    refused(&sandbox, &[temperature], &["captured with random_sampling, at temperature `1.5`", other])?;
    std::fs::remove_dir_all(sandbox.path("cache"))?;
    capture(&sandbox, &[TOP_K])?;
    refused(&sandbox, &[temperature], &["captured with top_k, at temperature `1.5`", other])?;
    distill(&sandbox, &["--out", "reverse"], &[CACHE, reverse])?.complete()?;
    std::fs::remove_dir_all(sandbox.path("cache"))?;
    capture(&sandbox, &[FULL])?;
    distill(&sandbox, &["--out", "full"], &[CACHE, reverse, temperature])?.complete()?;
    Ok(())
}

#[test]
fn a_damaged_an_incomplete_and_an_absent_cache_are_refused_by_name() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    refused(&sandbox, &[], &["`cache` holds no cache of logits", "hint: write it with `distill --capture`"])?;
    capture(&sandbox, &[])?;
    let parts = names(&sandbox.path("cache/parts"))?;
    let part = sandbox.path("cache/parts").join(&parts[0]);
    damage(&part)?;
    refused(&sandbox, &[], &[&format!("`cache/parts/{}` is damaged", parts[0]), "hint: "])?;
    // The same command writes it again, and says so.
    let again = distill(&sandbox, &["--capture"], &[CACHE])?;
    again.says(&[&format!("warning: `cache/parts/{}` was damaged", parts[0])])?;
    assert_eq!(names(&sandbox.path("cache/parts"))?, parts);
    std::fs::remove_file(part)?;
    refused(&sandbox, &[], &["logits cache `cache` lacks `0` of its `", "hint: "])
}

#[test]
fn a_capture_says_what_it_lacks() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let refused = |arguments: &[&str], sets: &[&str], fragments: &[&str]| -> anyhow::Result<()> {
        distill(&sandbox, arguments, sets)?.refused(2, fragments)
    };
    refused(&["--capture"], &[], &["teacher.logits is missing, --capture needs it; hint: "])?;
    refused(&["--capture"], &[CACHE, "teacher.from="], &["teacher.from is missing, --capture needs it; hint: "])?;
    refused(&["--capture", "--shard", "3/3"], &[CACHE], &["--shard is `3/3`, must be I/N"])?;
    refused(&["--shard", "0/3"], &[CACHE], &["--capture"])?;
    refused(&["--capture", "--control"], &[CACHE], &["--control"])?;
    capture(&sandbox, &[])?;
    let before = hashes(&sandbox.path("cache"))?;
    let draws = "capture.codec={kind=\"random_sampling\", draws=20}";
    refused(&["--capture"], &[CACHE, draws], &["has codec `", "draws: 50", "draws: 20", "hint: "])?;
    refused(&["--capture"], &[CACHE, "teacher.from=checkpoints/trial/teacher"], &["another teacher", "hint: "])?;
    assert_eq!(hashes(&sandbox.path("cache"))?, before);
    Ok(())
}

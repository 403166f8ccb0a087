//! Students that cannot be cut from what they name, and vocabularies that cannot be restricted.

use limbeck_model::{load_tensors, save_tensors};

use crate::support::files::{copy, hashes};
use crate::support::sandbox::{Sandbox, TEACHER};

/// `distill` with a student cut from the teacher by `keys`, and more overrides.
fn refused(sandbox: &Sandbox, keys: &str, sets: &[&str], fragments: &[&str]) -> anyhow::Result<()> {
    let before = hashes(&sandbox.path("checkpoints"))?;
    let start = format!("start={{kind=\"prune\", from=\"{TEACHER}\"{keys}}}");
    let mut arguments = vec!["--out", "refused", "--set", &start, "--set", "model="];
    arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
    sandbox.stage("distill", &arguments)?.refused(2, &[fragments, &["hint: "]].concat())?;
    assert_eq!(hashes(&sandbox.path("checkpoints"))?, before);
    assert_eq!(hashes(&sandbox.path("refused"))?.len(), 0);
    Ok(())
}

#[test]
fn a_student_larger_than_what_it_is_cut_from_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let sizes = [
        ("num_hidden_layers", 3, 2),
        ("hidden_size", 20, 18),
        ("intermediate_size", 27, 26),
        ("num_attention_heads", 4, 2),
        ("num_key_value_heads", 2, 1),
    ];
    for (key, asked, whole) in sizes {
        let message = format!("start.{key} is `{asked}`, must be at most that of start.from, `{whole}`");
        refused(&sandbox, &format!(", {key}={asked}"), &[], &[&message])?;
    }
    // All of them at once.
    let both = ["start.hidden_size is `20`", "start.intermediate_size is `27`"];
    refused(&sandbox, ", hidden_size=20, intermediate_size=27", &[], &both)
}

#[test]
fn heads_that_do_not_go_by_groups_are_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let heads = ["model.num_attention_heads=4", "model.num_key_value_heads=2"];
    let heads: Vec<&str> = heads.iter().flat_map(|set| ["--set", set]).collect();
    sandbox.stage("pretrain", &heads)?.complete()?;
    let teacher = format!("teacher.from={TEACHER}");
    let divide =
        "start.num_attention_heads is `3`, must be a multiple of the `2` key-value heads; hint: use `2` or `4`";
    refused(&sandbox, ", num_attention_heads=3", &[&teacher], &[divide])?;
    let shared =
        "start.num_key_value_heads is `1`, gives each key-value head `4` query heads, must be at most the `2` of";
    refused(&sandbox, ", num_key_value_heads=1", &[&teacher], &[shared])
}

#[test]
fn a_cut_of_nothing_or_on_nothing_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    refused(&sandbox, "", &[], &["start has kind = `prune`, but nothing is smaller than in start.from"])?;
    let none = "start.calibration_tokens is `0`, must be at least `1`";
    refused(&sandbox, ", hidden_size=14, calibration_tokens=0", &[], &[none])?;
    let shape = "model is given, but start.kind = `prune` has its own shape";
    refused(&sandbox, ", hidden_size=14", &["model.hidden_size=14"], &[shape])?;
    let length = ["data.sequence_length=96", "train.tokens_per_step=576"];
    refused(&sandbox, ", hidden_size=14", &length, &["max_position_embeddings of start.from"])
}

#[test]
fn a_model_whose_loss_is_not_finite_is_not_cut() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    copy(&sandbox.path(TEACHER).join("step-00000012"), &sandbox.path("damaged"))?;
    std::fs::remove_file(sandbox.path("damaged/manifest.json"))?;
    let file = sandbox.path("damaged/model.safetensors");
    let mut tensors = load_tensors(&file)?;
    tensors.get_mut("model.norm.weight").expect("the last norm").values[3] = f32::NAN;
    save_tensors(&file, &tensors)?;
    let keys = ", hidden_size=14";
    let message = "start.from is `damaged`: the model's loss on the calibration data is `NaN`, must be finite";
    refused(&sandbox, keys, &["start.from=damaged"], &[message])
}

#[test]
fn a_tokenizer_that_is_no_restriction_of_the_models_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let sets = ["--set", "corpus=", "--set", "tokenizer.path=data/other", "--set", "tokenizer.vocab_size=433"];
    sandbox.stage("prepare", &sets)?.complete()?;
    let differ = ["data.tokenizer does not go with start.from", "(id `420`) is not in the other"];
    refused(&sandbox, ", hidden_size=14", &["data.tokenizer=data/other/tokenizer.json"], &differ)
}

/// `prepare` of a restricted tokenizer into `data/small`.
fn not_restricted(sandbox: &Sandbox, sets: &[&str], fragments: &[&str]) -> anyhow::Result<()> {
    let own = ["corpus=", "tokenizer.kind=restrict", "tokenizer.path=data/small"];
    let sets: Vec<&str> = own.iter().chain(sets).flat_map(|set| ["--set", set]).collect();
    sandbox.stage("prepare", &sets)?.refused(2, &[fragments, &["hint: "]].concat())?;
    assert_eq!(hashes(&sandbox.path("data/small"))?.len(), 0);
    Ok(())
}

#[test]
fn a_vocabulary_that_cannot_be_restricted_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    not_restricted(&sandbox, &[], &["tokenizer.from is missing, tokenizer.kind = `restrict` needs one"])?;
    not_restricted(&sandbox, &["tokenizer.from=nowhere"], &["tokenizer.from is `nowhere`", "cannot read"])?;
    not_restricted(&sandbox, &["tokenizer.from=configs/sft.toml"], &["is not a readable tokenizer"])?;
    let from = "tokenizer.from=data/tiny/tokenizer";
    let more = "tokenizer.vocab_size is `421`, the corpus fills only `420`";
    not_restricted(&sandbox, &[from, "tokenizer.vocab_size=421"], &[more])?;
    copy(&sandbox.path("data/tiny/tokenizer"), &sandbox.path("data/spaces"))?;
    let text = sandbox.read("data/tiny/tokenizer/tokenizer.json")?.replace("\"ByteLevel\"", "\"Metaspace\"");
    sandbox
        .write("data/spaces/tokenizer.json", text.replace("\"add_prefix_space\": false", "\"replacement\": \"_\""))?;
    let size = "tokenizer.vocab_size=400";
    not_restricted(&sandbox, &["tokenizer.from=data/spaces", size], &["must be a byte-level BPE to be restricted"])
}

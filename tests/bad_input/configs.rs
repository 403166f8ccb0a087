//! Keys and values of a config.

use crate::support::files::hashes;
use crate::support::sandbox::Sandbox;

#[test]
fn the_nearest_key_is_named_for_a_misspelt_one() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let text = sandbox.read("configs/pretrain.toml")?.replace("save_every", "save_evry");
    sandbox.write("configs/pretrain.toml", text)?;
    let refused = sandbox.stage("pretrain", &[])?;
    refused.refused(2, &["configs/pretrain.toml:", "train.save_evry", "did you mean `save_every`"])
}

#[test]
fn a_misspelt_override_is_named_with_its_text() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let refused = sandbox.stage("sft", &["--set", "optimizer.lerning_rate=1e-3"])?;
    refused.refused(2, &["--set optimizer.lerning_rate=1e-3", "did you mean `learning_rate`"])
}

#[test]
fn a_value_out_of_range_is_named_with_its_line_and_rule() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let text = sandbox.read("configs/distill.toml")?.replace("ce_weight = 0.25", "ce_weight = 1.25");
    sandbox.write("configs/distill.toml", &text)?;
    let line = 1 + text.lines().position(|line| line.starts_with("ce_weight")).unwrap_or_default();
    let place = format!("configs/distill.toml:{line}: distill.ce_weight is `1.25`, must be from `0` to `1`; hint: ");
    sandbox.stage("distill", &[])?.refused(2, &[&place])
}

#[test]
fn everything_wrong_is_reported_at_once() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let sets = ["--set", "train.tokens_per_step=100", "--set", "model.num_key_value_heads=3", "--set", "run.name="];
    let fragments =
        ["3 problems in the config", "train.tokens_per_step is `100`", "model.num_key_value_heads", "run.name"];
    sandbox.stage("pretrain", &sets)?.refused(2, &fragments)
}

#[test]
fn a_config_that_is_not_there_is_named() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    for stage in ["prepare", "pretrain", "sft", "distill", "export-model"] {
        let refused = sandbox.run(stage, &["--config", "configs/nowhere.toml"])?;
        refused.refused(2, &["config `configs/nowhere.toml` cannot be read", "hint: "])?;
    }
    let refused = sandbox.run("limbeck", &["--configs", "nowhere"])?;
    refused.refused(2, &["`nowhere/prepare.toml`", "hint: ", "--configs"])
}

#[test]
fn a_config_that_is_not_toml_is_named_with_its_line() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    sandbox.write("configs/sft.toml", "[run]\nname = trial\n")?;
    sandbox.stage("sft", &[])?.refused(2, &["configs/sft.toml:2: not TOML", "hint: "])
}

#[test]
fn a_vocabulary_of_another_size_than_the_tokenizers_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let refused = sandbox.stage("pretrain", &["--set", "model.vocab_size=421"])?;
    refused.refused(2, &["model.vocab_size is `421`, must be the tokenizer's `420`", "hint: "])?;
    assert_eq!(hashes(&sandbox.path("checkpoints"))?.len(), 0);
    Ok(())
}

#[test]
fn a_vocabulary_that_the_corpus_cannot_fill_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    sandbox.write("data/few.txt", "a cat sat on a mat")?;
    let sets = ["--set", "corpus=", "--set", r#"data.train=[{ path = "data/few.txt" }]"#];
    sandbox
        .stage("prepare", &sets)?
        .refused(2, &["tokenizer.vocab_size is `420`, the corpus fills only `", "hint: "])?;
    assert!(!sandbox.path("data/tiny/tokenizer").exists());
    Ok(())
}

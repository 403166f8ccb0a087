//! Every value of every config replaced by nonsense: an answer, never a crash.

use anyhow::ensure;

use crate::support::sandbox::Sandbox;

const NONSENSE: [&str; 6] = ["0", "-1", "1e30", "nan", "\"\"", "[]"];

/// As many as TOML can count, where nothing is made of it.
const MOST: &str = "9223372036854775807";

/// Keys that the sandbox's configs leave at their defaults.
const DEFAULTS: [&str; 21] = [
    "data.cache",
    "data.tokenizer",
    "data.train.0.column",
    "data.train.0.weight",
    "model.architecture",
    "model.max_position_embeddings",
    "model.rms_norm_eps",
    "model.rope_theta",
    "model.tie_word_embeddings",
    "model.vocab_size",
    "optimizer.beta_1",
    "optimizer.beta_2",
    "optimizer.epsilon",
    "optimizer.groups",
    "optimizer.max_grad_norm",
    "optimizer.weight_decay",
    "schedule.final_ratio",
    "train.keep_checkpoints",
    "train.log_every",
    "train.max_tokens",
    "train.precision",
];

/// The keys of a config, with those of its sections, such as `data.train.0.path`.
fn keys(text: &str) -> Vec<String> {
    let (mut keys, mut section) = (Vec::new(), String::new());
    for line in text.lines() {
        if let Some(list) = line.strip_prefix("[[").and_then(|line| line.strip_suffix("]]")) {
            let index = (0..).find(|index| !keys.contains(&format!("{list}.{index}"))).unwrap_or(0);
            section = format!("{list}.{index}");
            keys.push(section.clone());
        } else if let Some(table) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = table.to_owned();
            keys.push(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

/// Status 0 or 2 for every key and value, and 2 with a way out.
fn answers(sandbox: &Sandbox, stage: &str, defaults: &[&str], arguments: &[&str]) -> anyhow::Result<()> {
    let mut keys = keys(&sandbox.read(&format!("configs/{stage}.toml"))?);
    keys.extend(defaults.iter().map(|key| (*key).to_owned()));
    let mut refused = 0;
    let values = NONSENSE.into_iter().chain(arguments.contains(&"--check").then_some(MOST));
    for (key, value) in keys.iter().flat_map(|key| values.clone().map(move |value| (key, value))) {
        let set = format!("{key}={value}");
        let outcome = sandbox.stage(stage, &[&["--set", &set][..], arguments].concat())?;
        match outcome.status {
            0 => {}
            2 => {
                outcome.refused(2, &["hint: "])?;
                refused += 1;
            }
            _ => ensure!(false, "--set {set}: {outcome:?}"),
        }
    }
    // Nonsense that is a sane value of some key does not pass everywhere.
    ensure!(2 * refused > keys.len() * NONSENSE.len(), "{refused} refused of {} keys", keys.len());
    Ok(())
}

#[test]
fn the_keys_of_a_config_are_found() {
    let text = "[run]\nname = \"a\"\n\n[[data.train]]\npath = \"b\"\n# path = \"c\"\n\n[[data.train]]\npath = \"d\"\n";
    let expected = ["run", "run.name", "data.train.0", "data.train.0.path", "data.train.1", "data.train.1.path"];
    assert_eq!(keys(text), expected);
}

#[test]
fn prepare_answers_nonsense() -> anyhow::Result<()> {
    answers(&Sandbox::with_configs()?, "prepare", &["data.train.0.column", "data.train.0.weight"], &[])
}

#[test]
fn pretrain_answers_nonsense() -> anyhow::Result<()> {
    answers(&Sandbox::prepared()?, "pretrain", &DEFAULTS, &["--check"])
}

#[test]
fn sft_answers_nonsense() -> anyhow::Result<()> {
    answers(&Sandbox::after(&["pretrain"])?, "sft", &DEFAULTS, &["--check"])
}

#[test]
fn distill_answers_nonsense() -> anyhow::Result<()> {
    answers(&Sandbox::after(&["pretrain", "sft"])?, "distill", &DEFAULTS, &["--check"])
}

#[test]
fn export_model_answers_nonsense() -> anyhow::Result<()> {
    answers(&Sandbox::after(&["pretrain", "sft", "distill"])?, "export-model", &[], &["--check"])
}

//! The stages as a user meets them: what they print, what they leave behind, and how one takes up the other's work.

use std::collections::BTreeSet;

use limbeck_config::{ExportConfig, PrepareConfig, TrainingStage, load, load_training};
use serde_json::Value;

use crate::support::files::{hashes, names};
use crate::support::sandbox::{COMMANDS, EXPORT, SFT, STUDENT, Sandbox, TEACHER};

const LAST: &str = "step-00000012";

#[test]
fn stdout_carries_the_final_path_alone() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let stages = [
        ("prepare", "data/tiny/tokenizer".to_owned()),
        ("pretrain", format!("{TEACHER}/{LAST}")),
        ("sft", format!("{SFT}/{LAST}")),
        ("distill", format!("{STUDENT}/{LAST}")),
        ("export-model", EXPORT.to_owned()),
    ];
    for (stage, path) in stages {
        let outcome = sandbox.stage(stage, &[])?;
        assert_eq!(outcome.stdout, format!("{path}\n"));
        assert!(outcome.stderr.contains(&format!("{stage}: ")) || stage == "export-model", "{}", outcome.stderr);
        assert!(sandbox.path(&outcome.complete()?).is_dir());
    }
    let control = sandbox.stage("distill", &["--control"])?;
    assert_eq!(control.stdout, format!("checkpoints/trial/student-ce/{LAST}\n"));
    Ok(())
}

#[test]
fn one_stage_starts_from_the_path_that_another_prints() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let line = r#"sft --config configs/sft.toml --set start.from="$(pretrain --config configs/pretrain.toml --out elsewhere)""#;
    let step = sandbox.bash(line)?.complete()?;
    let manifest: Value = serde_json::from_str(&sandbox.read(&format!("{step}/manifest.json"))?)?;
    assert_eq!(manifest["parent"]["path"], format!("elsewhere/{LAST}"));
    Ok(())
}

#[test]
fn a_check_prints_the_resolved_config_and_writes_no_checkpoint() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let check = |stage: &str| -> anyhow::Result<String> {
        let before = hashes(&sandbox.path("checkpoints"))?;
        let outcome = sandbox.stage(stage, &["--check", "--set", "run.seed=77"])?;
        if !["prepare", "export-model"].contains(&stage) {
            outcome.says(&["parameters", "tokens a step", "memory, predicted", "time, predicted"])?;
        }
        let resolved = outcome.complete()?;
        assert_eq!(hashes(&sandbox.path("checkpoints"))?, before);
        sandbox.write(&format!("resolved/{stage}.toml"), &resolved)?;
        sandbox.stage(stage, &[])?.complete()?;
        Ok(resolved)
    };
    check("prepare")?;
    assert_eq!(load::<PrepareConfig>(&sandbox.path("resolved/prepare.toml"), &[])?.run.seed, 77);
    for (stage, kind) in
        [("pretrain", TrainingStage::Pretrain), ("sft", TrainingStage::Sft), ("distill", TrainingStage::Distill)]
    {
        let resolved = check(stage)?;
        let mut config = load_training(kind, &sandbox.path(&format!("resolved/{stage}.toml")), &[])?;
        assert_eq!((config.run.seed, config.train.keep_checkpoints), (77, 2), "{resolved}");
        let same = load_training(kind, &sandbox.path(&format!("configs/{stage}.toml")), &["run.seed=77".into()])?;
        assert!(config.train.precision.take().is_some() && same.train.precision.is_none(), "the device's is written");
        assert_eq!(config, same);
    }
    check("export-model")?;
    assert_eq!(load::<ExportConfig>(&sandbox.path("resolved/export-model.toml"), &[])?.run.seed, 77);
    Ok(())
}

#[test]
fn the_parameters_that_a_check_counts_are_those_of_the_checkpoint() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let bytes = std::fs::read(sandbox.path(TEACHER).join(LAST).join("model.safetensors"))?;
    let tensors = safetensors::SafeTensors::deserialize(&bytes)?;
    let parameters: usize = tensors.iter().map(|(_, tensor)| tensor.shape().iter().product::<usize>()).sum();
    let check = sandbox.stage("pretrain", &["--check", "--out", "other"])?;
    let line = check.stderr.lines().find_map(|line| line.strip_prefix("parameters "));
    assert_eq!(line.map(str::trim), Some(parameters.to_string().as_str()));
    Ok(())
}

#[cfg(unix)]
#[test]
fn the_files_of_a_model_are_readable_to_the_same_people() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::after(&["pretrain"])?;
    let step = sandbox.path(TEACHER).join(LAST);
    let modes = names(&step)?.into_iter().map(|name| Ok((step.join(&name).metadata()?.permissions().mode(), name)));
    let modes = modes.collect::<std::io::Result<Vec<_>>>()?;
    assert!(modes.iter().all(|(mode, _)| *mode == modes[0].0), "{modes:?}");
    Ok(())
}

#[test]
fn the_config_of_a_run_makes_the_same_run() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let sets = ["--set", "train.max_steps=", "--set", "train.max_tokens=3000", "--set", "optimizer.weight_decay=0.05"];
    let first = sandbox.stage("pretrain", &sets)?.complete()?;
    let config = format!("{TEACHER}/config.toml");
    let second = sandbox.run("pretrain", &["--config", &config, "--out", "second"])?.complete()?;
    // 3,000 tokens are ten and a half steps.
    assert_eq!((first.rsplit('/').next(), second.as_str()), (Some("step-00000011"), "second/step-00000011"));
    assert_eq!(hashes(&sandbox.path(&first))?, hashes(&sandbox.path(&second))?);
    assert_eq!(sandbox.read("second/config.toml")?, sandbox.read(&config)?);
    Ok(())
}

#[test]
fn rows_of_metrics_have_the_documented_keys() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let text = sandbox.read(&format!("{TEACHER}/metrics.jsonl"))?;
    let rows: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let always = ["grad_norm", "learning_rate", "loss_nats", "step", "tokens_per_s", "tokens_seen"];
    let evaluated = ["valid_bits_per_byte", "valid_loss_nats"];
    assert_eq!(rows.len(), 12);
    for (row, step) in rows.iter().zip(1_u64..) {
        let keys: BTreeSet<&str> = row.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let expected: BTreeSet<&str> =
            if step.is_multiple_of(6) { always.iter().chain(&evaluated).copied().collect() } else { always.into() };
        assert_eq!(keys, expected);
        assert_eq!((row["step"].as_u64(), row["tokens_seen"].as_u64()), (Some(step), Some(288 * step)));
        assert!(row.as_object().into_iter().flatten().all(|(_, value)| value.as_f64().is_some_and(f64::is_finite)));
    }
    // A third of the highest rate in the first of three steps of warm-up.
    assert!((rows[0]["learning_rate"].as_f64().unwrap_or(0.0) - 1e-3).abs() < 1e-12);
    Ok(())
}

#[test]
fn rows_are_logged_at_their_interval_after_evaluations_and_at_the_end() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    sandbox.stage("pretrain", &["--set", "train.log_every=5"])?.complete()?;
    let text = sandbox.read(&format!("{TEACHER}/metrics.jsonl"))?;
    let step = |line: &str| Ok(serde_json::from_str::<Value>(line)?["step"].as_u64().unwrap_or(0));
    assert_eq!(text.lines().map(step).collect::<anyhow::Result<Vec<_>>>()?, [5, 6, 10, 12]);
    Ok(())
}

/// Bytes of the last step's file in a run directory.
fn last(sandbox: &Sandbox, run: &str, file: &str) -> anyhow::Result<Vec<u8>> {
    let steps = names(&sandbox.path(run))?;
    let step = steps.iter().rfind(|name| name.starts_with("step-")).map(String::as_str).unwrap_or_default();
    Ok(std::fs::read(sandbox.path(run).join(step).join(file))?)
}

#[test]
fn student_and_control_start_from_the_same_weights() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    // So slow that 32-bit weights do not move.
    let still = ["--set", "optimizer.learning_rate=1e-30", "--set", "train.max_steps=3"];
    let start = |out: &str, more: &[&str]| -> anyhow::Result<Vec<u8>> {
        sandbox.stage("distill", &[&still[..], &["--out", out], more].concat())?.complete()?;
        last(&sandbox, out, "model.safetensors")
    };
    let student = start("student", &[])?;
    assert_eq!(start("control", &["--control"])?, student);
    assert_ne!(start("other", &["--control", "--set", "run.seed=8"])?, student);
    Ok(())
}

#[test]
fn cross_entropy_of_weight_one_is_the_control() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    for (out, more) in [
        ("pure", &["--set", "distill.ce_weight=1.0"][..]),
        ("control", &["--control"]),
        ("mixed", &["--set", "distill.ce_weight=0.9"]),
    ] {
        sandbox.stage("distill", &[&["--out", out][..], more].concat())?.complete()?;
    }
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert_eq!(last(&sandbox, "pure", file)?, last(&sandbox, "control", file)?);
        assert_ne!(last(&sandbox, "mixed", file)?, last(&sandbox, "control", file)?);
    }
    Ok(())
}

#[test]
fn the_chain_runs_every_stage_and_a_second_time_none() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let first = sandbox.run("limbeck", &["--configs", "configs"])?;
    first.says(&[
        "[1/6] prepare",
        "[2/6] pretrain",
        "[3/6] sft",
        "[4/6] distill",
        "[5/6] distill --control",
        "[6/6] export-model",
    ])?;
    let report = first.complete()?;
    for fragment in ["teacher", "cross-entropy alone", "distilled", "bits/byte", "exact answers", "model-f32.gguf"] {
        assert!(report.contains(fragment), "`{fragment}` is not in:\n{report}");
    }
    assert_eq!(
        names(&sandbox.path("checkpoints/trial"))?,
        ["export", "report.md", "sft", "student", "student-ce", "teacher"]
    );
    let before = hashes(&sandbox.path("checkpoints"))?;

    let second = sandbox.run("limbeck", &["--configs", "configs"])?;
    assert_eq!(second.stderr.matches("already complete").count(), 6, "{}", second.stderr);
    assert_eq!(second.complete()?, report);
    assert_eq!(hashes(&sandbox.path("checkpoints"))?, before);

    // One more seed: the first pair is complete.
    let more = sandbox.run("limbeck", &["--configs", "configs", "--seeds", "2"])?;
    assert_eq!(more.stderr.matches("already complete").count(), 6, "{}", more.stderr);
    more.says(&["/8] distill"])?;
    assert!(more.complete()?.contains("of 2 seeds"));
    Ok(())
}

#[test]
fn generate_says_the_same_twice_and_each_prompt_alone() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let generate = |more: &[&str]| -> anyhow::Result<String> {
        let arguments = [&["--from", TEACHER, "--max-new-tokens", "9"][..], more].concat();
        sandbox.run("generate", &arguments)?.complete()
    };
    let drawn = ["--prompt", "Anna", "--temperature", "1", "--top-k", "50", "--seed", "3"];
    assert_eq!(generate(&drawn)?, generate(&drawn)?);
    let both = generate(&["--prompt", "Anna", "--prompt", "In the garden there was"])?;
    let alone = [generate(&["--prompt", "Anna"])?, generate(&["--prompt", "In the garden there was"])?];
    assert_eq!(both, alone.join("\n"));
    Ok(())
}

#[test]
fn evaluate_gives_the_last_row_of_the_run() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let arguments = ["--from", TEACHER, "--data", "data/tiny/valid.parquet"];
    let found: Value = serde_json::from_str(&sandbox.run("evaluate", &arguments)?.complete()?)?;
    let text = sandbox.read(&format!("{TEACHER}/metrics.jsonl"))?;
    let row: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    for (key, logged) in [("loss_nats", "valid_loss_nats"), ("bits_per_byte", "valid_bits_per_byte")] {
        let (found, logged) = (found[key].as_f64().unwrap_or(f64::NAN), row[logged].as_f64().unwrap_or(0.0));
        // Batches of another size are summed in another order, in 32 bits.
        assert!((found - logged).abs() < 1e-6 * logged, "{key}: {found} against {logged}");
    }
    let chats = ["--data", "data/tiny/chats-valid.parquet", "--kind", "chats", "--answers", "5"];
    let found = sandbox.run("evaluate", &[&["--from", TEACHER][..], &chats].concat());
    // Prompts of chats are longer than 48 tokens at this vocabulary, and that is an answer too.
    let found = found?;
    assert!([0, 1].contains(&found.status), "{found:?}");
    Ok(())
}

#[test]
fn help_names_every_option() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    for command in COMMANDS {
        let help = sandbox.run(command, &["--help"])?.complete()?;
        insta::assert_snapshot!(format!("help_{command}"), help);
    }
    Ok(())
}

#[test]
fn a_reader_of_stderr_that_goes_away_stops_nothing() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let mut stage = sandbox.stage_command("pretrain", &[]).spawn()?;
    drop(stage.stderr.take());
    let ended = stage.wait_with_output()?;
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8(ended.stdout)?, format!("{TEACHER}/{LAST}\n"));
    Ok(())
}

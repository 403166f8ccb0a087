//! The stages with a student that is cut: what they print and leave behind.

use serde_json::Value;

use crate::support::files::{hashes, names};
use crate::support::sandbox::{SFT, STUDENT, Sandbox, TEACHER};

const START: &str = "start={kind=\"prune\", from=\"checkpoints/trial/teacher\", num_hidden_layers=1, hidden_size=14, \
                     intermediate_size=22, num_attention_heads=1, calibration_tokens=500}";

#[test]
fn a_cut_student_is_distilled_with_a_report_of_what_went() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let sets = ["--set", START, "--set", "model="];
    let check = sandbox.stage("distill", &[&sets[..], &["--check"]].concat())?;
    check.says(&["parameters            7310", "time, predicted"])?;
    assert!(check.complete()?.contains("kind = \"prune\""));
    assert!(!sandbox.path(STUDENT).exists());

    let outcome = sandbox.stage("distill", &sets)?;
    outcome.says(&[
        "prune: block ",
        "prune: blocks: 2 to 1",
        "prune: channels: 18 to 14",
        "7310 of 12218 parameters stay",
    ])?;
    let step = outcome.complete()?;
    let json = |path: String| -> anyhow::Result<Value> { Ok(serde_json::from_str(&sandbox.read(&path)?)?) };
    let report = json(format!("{STUDENT}/prune.json"))?;
    let manifest = json(format!("{step}/manifest.json"))?;
    assert_eq!(report["from"], manifest["parent"]);
    assert_eq!(manifest["parent"]["path"], format!("{TEACHER}/step-00000012"));
    // 500 tokens are eleven rows of 48.
    assert_eq!((&report["calibration"]["rows"], &report["calibration"]["tokens"]), (&11.into(), &528.into()));
    assert_eq!((&report["parameters"]["before"], &report["parameters"]["after"]), (&12218.into(), &7310.into()));
    assert_eq!(report["removed"]["loss_without_nats"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["channels"]["dropped"].as_array().map(Vec::len), Some(4));
    let config = json(format!("{step}/config.json"))?;
    let sizes = ["num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"];
    assert_eq!(sizes.map(|size| config[size].as_u64()), [1, 14, 22, 1, 1].map(Some));

    // The control starts from the same weights, and what is complete is not cut again.
    sandbox.stage("distill", &[&sets[..], &["--control", "--out", "control"]].concat())?.complete()?;
    assert_eq!(sandbox.read("control/prune.json")?, sandbox.read(&format!("{STUDENT}/prune.json"))?);
    let before = hashes(&sandbox.path(STUDENT))?;
    let again = sandbox.stage("distill", &[&sets[..], &["--resume"]].concat())?;
    assert!(!again.stderr.contains("prune: "), "{}", again.stderr);
    again.complete()?;
    assert_eq!(hashes(&sandbox.path(STUDENT))?, before);
    assert_eq!(
        names(&sandbox.path(STUDENT))?,
        [".lock", "config.toml", "gap.json", "gap.md", "metrics.jsonl", "prune.json", "step-00000008", "step-00000012"]
    );
    Ok(())
}

#[test]
fn every_stage_that_trains_can_start_from_a_cut() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    for (stage, from, more) in [("pretrain", SFT, &["--set", "model="][..]), ("sft", TEACHER, &[])] {
        let start = format!("start={{kind=\"prune\", from=\"{from}\", intermediate_size=13}}");
        let sets = ["--set", &start, "--out", stage];
        sandbox.stage(stage, &[&sets[..], more].concat())?.complete()?;
        assert!(sandbox.read(&format!("{stage}/prune.json"))?.contains("\"dropped_neurons_share\""));
    }
    Ok(())
}

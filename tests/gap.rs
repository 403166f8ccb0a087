//! What the report of `distill` says is what the models do.

use anyhow::Context;
use serde_json::Value;

use crate::support::files::hashes;
use crate::support::sandbox::{STUDENT, Sandbox, TEACHER};

fn gap(sandbox: &Sandbox, run: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&sandbox.read(&format!("{run}/gap.json"))?)?)
}

fn number(value: &Value) -> anyhow::Result<f64> {
    value.as_f64().with_context(|| format!("{value} is no number"))
}

/// Nats and targets of `evaluate` on both kinds of held-out data.
fn evaluated(sandbox: &Sandbox, from: &str) -> anyhow::Result<f64> {
    let (mut nats, mut targets) = (0.0, 0.0);
    for (kind, data) in [("documents", "data/tiny/valid.parquet"), ("chats", "data/tiny/chats-valid.parquet")] {
        let arguments = ["--from", from, "--data", data, "--kind", kind, "--sequence-length", "48"];
        let result: Value = serde_json::from_str(&sandbox.run("evaluate", &arguments)?.complete()?)?;
        let count = number(&result["target_tokens"])?;
        nats += count * number(&result["loss_nats"])?;
        targets += count;
    }
    Ok(nats / targets)
}

#[test]
fn the_report_says_what_evaluate_says_and_what_follows() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let first = sandbox.stage("distill", &[])?;
    first.says(&["| teacher |", "| student before |", "| student distilled |", "--control=compute"])?;
    let first_report = gap(&sandbox, STUDENT)?;
    assert!(first_report["twins"].as_array().is_some_and(Vec::is_empty));
    assert!(first_report["before"].is_object());

    let twin = sandbox.stage("distill", &["--control"])?;
    twin.says(&["cross-entropy, equal tokens"])?;
    let dear = sandbox.stage("distill", &["--control=compute"])?;
    dear.says(&["cross-entropy, equal compute"])?;
    let report = gap(&sandbox, STUDENT)?;
    let loss = |arm: &Value| number(&arm["comparison"]["loss_nats"]);
    let arms = [
        (&report["teacher"], "checkpoints/trial/sft"),
        (&report["student"], STUDENT),
        (&report["twins"][0]["arm"], "checkpoints/trial/student-ce"),
        (&report["twins"][1]["arm"], "checkpoints/trial/student-ce-compute"),
    ];
    for (arm, run) in arms {
        let (said, seen) = (loss(arm)?, evaluated(&sandbox, run)?);
        // The same forward passes, in batches of other sizes.
        assert!((said - seen).abs() < 1e-5, "{run}: {said} against {seen}");
        assert_eq!(
            arm["bytes"],
            std::fs::metadata(sandbox.path(arm["path"].as_str().unwrap_or_default()).join("model.safetensors"))?.len()
        );
    }
    let (teacher, student, twin) = (loss(arms[0].0)?, loss(arms[1].0)?, loss(arms[2].0)?);
    let share = 100.0 * (twin - student) / (twin - teacher);
    let text = sandbox.read(&format!("{STUDENT}/gap.md"))?;
    let expected = if twin > teacher { format!("{share:.1} % of the gap") } else { "no gap".to_owned() };
    assert!(text.contains(&expected), "`{expected}` is not in:\n{text}");

    // Equal compute: to half of a step.
    let flops = |index: usize| number(&arms[index].0["cost"]["flops"]);
    let step = flops(2)? / 12.0;
    assert!((flops(3)? - flops(1)?).abs() <= 0.5 * step + 1.0, "{} {} {step}", flops(3)?, flops(1)?);
    assert!(flops(1)? > 1.5 * flops(2)?, "the teacher is larger than the student");

    // A second time nothing changes.
    let before = hashes(&sandbox.path("checkpoints"))?;
    sandbox.stage("distill", &["--resume"])?.complete()?;
    assert_eq!(hashes(&sandbox.path("checkpoints"))?, before);
    // The student before its first step is of the first report, and its weights are gone since.
    assert_eq!(report["before"], first_report["before"]);
    assert!(!sandbox.path(&format!("{STUDENT}/before")).exists());
    Ok(())
}

#[test]
fn a_student_that_is_the_teacher_agrees_with_it() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let same = [
        "--set",
        "model=",
        "--set",
        "start={kind=\"checkpoint\", from=\"checkpoints/trial/teacher\"}",
        "--set",
        "teacher.from=checkpoints/trial/teacher",
        "--set",
        "train.max_steps=3",
        "--set",
        "schedule.warmup_steps=1",
    ];
    sandbox.stage("distill", &same)?.complete()?;
    let report = gap(&sandbox, STUDENT)?;
    assert_eq!(number(&report["before"]["agreement"])?, 1.0);
    assert!(number(&report["before"]["kl_nats"])?.abs() < 1e-6);
    assert_eq!(report["before"]["loss_nats"], report["teacher"]["comparison"]["loss_nats"]);
    // Another student does not.
    sandbox.stage("distill", &["--out", "other", "--set", &format!("teacher.from={TEACHER}")])?.complete()?;
    let other = gap(&sandbox, "other")?;
    assert!(number(&other["before"]["agreement"])? < 0.9);
    // The teacher has learnt for twelve steps.
    assert!(number(&other["before"]["kl_nats"])? > 1e-3, "{other}");
    Ok(())
}

#[test]
fn other_seeds_beside_it_give_the_spread() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    for seed in ["1", "2", "3"] {
        let (seed, out) = (format!("run.seed={seed}"), format!("runs/student-{seed}"));
        sandbox.stage("distill", &["--set", &seed, "--out", &out])?.complete()?;
        let twin = sandbox.stage("distill", &["--control", "--set", &seed, "--out", &format!("{out}-ce")])?;
        assert_eq!(twin.stderr.contains("Over 3 seeds"), seed == "run.seed=3", "{}", twin.stderr);
    }
    let mut better = Vec::new();
    for seed in 1..=3 {
        let report = gap(&sandbox, &format!("runs/student-{seed}"))?;
        let loss = |arm: &Value| number(&arm["comparison"]["loss_nats"]);
        better.push(loss(&report["twins"][0]["arm"])? - loss(&report["student"])?);
    }
    let mean = better.iter().sum::<f64>() / 3.0;
    let deviation = (better.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    let text = sandbox.read("runs/student-3/gap.md")?;
    assert!(text.contains(&format!("better by {mean:.4} ± {deviation:.4} nats")), "{mean} {deviation}\n{text}");
    Ok(())
}

#[test]
fn the_control_of_equal_compute_needs_the_student_and_the_teachers_shape() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let early = sandbox.stage("distill", &["--control=compute"])?;
    early.refused(2, &["checkpoints/trial/student", "complete student"])?;
    Ok(())
}

//! Steps that learn from what the student itself says.

use anyhow::Context;
use limbeck_checkpoint::resolve;
use limbeck_config::{Architecture, DataEntry, DataKind, Divergence, ModelConfig, OnPolicySection};
use limbeck_data::{Batch, Mixture, Tokenizer};
use limbeck_loss::{DivergenceLoss, MixedLoss};
use limbeck_model::{Transformer, load_directory};
use limbeck_train::{Distillation, OnPolicy, Teacher, next_token_loss};
use serde_json::Value;

use crate::support::batches::positions;
use crate::support::devices::cpu;
use crate::support::distance::values;
use crate::support::files::hashes;
use crate::support::models::small;
use crate::support::sandbox::{SFT, Sandbox};

const LAST: &str = "step-00000012";
/// For every `distill` here.
const SECTION: [&str; 3] = ["on_policy.fraction=0.5", "on_policy.prompt_tokens=9", "on_policy.max_new_tokens=13"];

fn distill(sandbox: &Sandbox, out: &str, sets: &[&str]) -> anyhow::Result<String> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    sandbox.stage("distill", &["--out", out].into_iter().chain(sets).collect::<Vec<_>>())?.complete()
}

/// A run's last weights and optimizer.
fn outcome(sandbox: &Sandbox, run: &str) -> anyhow::Result<[String; 2]> {
    let hashes = hashes(&sandbox.path(run).join(LAST))?;
    Ok(["model.safetensors", "optimizer.safetensors"].map(|file| hashes[file].clone()))
}

fn rows(sandbox: &Sandbox, run: &str) -> anyhow::Result<Vec<Value>> {
    let text = sandbox.read(&format!("{run}/metrics.jsonl"))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[test]
fn a_fraction_of_zero_is_the_training_without_the_section() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    distill(&sandbox, "without", &[])?;
    distill(&sandbox, "zero", &[&SECTION[1..], &["on_policy.fraction=0.0"]].concat())?;
    assert_eq!(outcome(&sandbox, "zero")?, outcome(&sandbox, "without")?);
    assert!(rows(&sandbox, "zero")?.iter().all(|row| row.get("on_policy").is_none()));
    // And one over zero is not.
    distill(&sandbox, "half", &SECTION)?;
    assert_ne!(outcome(&sandbox, "half")?, outcome(&sandbox, "without")?);
    Ok(())
}

#[test]
fn metrics_say_which_steps_are_on_policy_and_what_sampling_took() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    distill(&sandbox, "half", &SECTION)?;
    let rows = rows(&sandbox, "half")?;
    assert_eq!(rows.len(), 12);
    for (step, row) in (1..).zip(&rows) {
        let own = step % 2 == 0;
        assert_eq!(row["on_policy"], own, "{row}");
        assert_eq!(row["sampled_tokens"].as_u64() > Some(0), own, "{row}");
        assert_eq!(row["sampling_s"].as_f64() > Some(0.0), own, "{row}");
    }
    Ok(())
}

#[test]
fn cross_entropy_has_no_part_in_own_samples() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let only = [&["on_policy.fraction=1.0"], &SECTION[1..]].concat();
    for (run, weight) in [("none", "distill.ce_weight=0.0"), ("some", "distill.ce_weight=0.5")] {
        distill(&sandbox, run, &[&only[..], &[weight]].concat())?;
    }
    assert_eq!(outcome(&sandbox, "none")?, outcome(&sandbox, "some")?);
    Ok(())
}

#[test]
fn captured_logits_serve_the_other_steps() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let cached = ["teacher.logits=cache", "capture.codec={kind=\"full\"}"];
    let sets: Vec<&str> = cached.iter().flat_map(|set| ["--set", set]).collect();
    sandbox.stage("distill", &[&["--capture"], &sets[..]].concat())?.complete()?;
    distill(&sandbox, "online", &SECTION)?;
    distill(&sandbox, "cached", &[&SECTION[..], &cached[..]].concat())?;
    assert_eq!(outcome(&sandbox, "cached")?, outcome(&sandbox, "online")?);
    // Without the model there is nobody to ask about what the student says.
    let refused = [&SECTION[..], &["teacher={logits=\"cache\"}"]].concat();
    let sets = refused.iter().flat_map(|set| ["--set", set]);
    let refused = sandbox.stage("distill", &["--out", "refused"].into_iter().chain(sets).collect::<Vec<_>>())?;
    refused.refused(2, &["on_policy.fraction is `0.5`, needs teacher.from: captured logits are of the data", "hint: "])
}

#[test]
fn a_check_measures_both_kinds_of_steps() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let sets = SECTION.iter().flat_map(|set| ["--set", set]);
    let check = sandbox.stage("distill", &["--check"].into_iter().chain(sets).collect::<Vec<_>>())?;
    check.says(&["on own samples        6 steps (", "s a step, measured)"])?;
    assert!(check.complete()?.contains("[on_policy]\nfraction = 0.5\n"));
    Ok(())
}

/// The sandbox's training data and its tokenizer.
fn data(sandbox: &Sandbox) -> anyhow::Result<(Mixture, Tokenizer)> {
    let tokenizer = Tokenizer::load(sandbox.path("data/tiny/tokenizer/tokenizer.json"))?;
    let entry = |name: &str, kind| DataEntry {
        path: sandbox.path(name).display().to_string(),
        kind,
        column: None,
        prompt_column: None,
        completion_column: None,
        weight: 1.0,
    };
    let documents = entry("data/tiny/train.parquet", DataKind::Documents);
    let entries = [documents, entry("data/tiny/chats-train.parquet", DataKind::Chats)];
    let data = Mixture::open(&entries, &tokenizer, 48, 5, &sandbox.path("data/cache"), &|_| ())?;
    Ok((data, tokenizer))
}

fn on_policy(teacher: Transformer, stop: Vec<u32>, divergence: Divergence) -> OnPolicy {
    let section = OnPolicySection {
        fraction: 1.0,
        prompt_tokens: 9,
        max_new_tokens: 13,
        temperature: 1.0,
        top_k: None,
        top_p: 1.0,
    };
    let divergence = DivergenceLoss { divergence, temperature: 1.0, scale_by_temperature_squared: false };
    let loss = MixedLoss { divergence, ce_weight: 0.0 };
    let objective = Distillation { teacher: Teacher::Online(Box::new(teacher)), loss };
    OnPolicy { section, objective, stop, seed: 77 }
}

/// Every token that was said, as the tokens before it and where it stands in `batch`.
fn contexts(batch: &Batch) -> Vec<(Vec<u32>, usize)> {
    let before = |place: usize| batch.inputs[place - batch.positions[place] as usize..=place].to_vec();
    let counts = batch.loss_mask.iter().enumerate().filter(|(_, counts)| **counts);
    counts.map(|(place, _)| (before(place), place)).collect()
}

/// Of the next token after a text, in 64 bits.
fn log_probabilities(model: &Transformer, text: &[u32]) -> Vec<f64> {
    let logits = values(model.logits(text, &positions(&[text.len()]), text.len()));
    let last: Vec<f64> = logits[logits.len() - model.config().vocab_size..].iter().map(|v| f64::from(*v)).collect();
    let sum: f64 = last.iter().map(|logit| logit.exp()).sum();
    last.iter().map(|logit| logit - sum.ln()).collect()
}

#[test]
fn the_loss_is_the_divergence_on_exactly_the_sampled_tokens() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let (data, tokenizer) = data(&sandbox)?;
    let config = ModelConfig { vocab_size: tokenizer.vocab_size(), ..small(Architecture::Qwen3) };
    let student = Transformer::new(&config, 1, &cpu().autodiff());
    let teacher = Transformer::new(&config, 2, &cpu());
    // Whatever the student says most of the time, so that continuations end on their way.
    let stop: Vec<u32> =
        tokenizer.stop_ids().into_iter().chain((0..tokenizer.vocab_size() as u32).step_by(23)).collect();
    let on_policy = on_policy(teacher.clone(), stop.clone(), Divergence::ReverseKl {});
    let rows = data.batch(0, 40);
    let lesson = on_policy.lesson(&student, &data, &rows, 5, 3)?.context("the rows have prompts")?;
    let again = on_policy.lesson(&student, &data, &rows, 5, 3)?.context("the rows have prompts")?;
    assert_eq!(lesson.batch, again.batch);
    let other = on_policy.lesson(&student, &data, &rows, 5, 4)?.context("the rows have prompts")?;
    assert_ne!(lesson.batch, other.batch);
    let mut ended = 0;
    for span in &lesson.batch.segments {
        let pairs = span.row * 48 + span.start..span.row * 48 + span.start + span.length;
        let said: Vec<u32> =
            pairs.filter(|place| lesson.batch.loss_mask[*place]).map(|p| lesson.batch.targets[p]).collect();
        let stops = said.iter().filter(|token| stop.contains(token)).count();
        assert!(stops == 0 && said.len() == 13 || stops == 1 && stop.contains(&said[said.len() - 1]), "{said:?}");
        ended += stops;
    }
    assert!(ended > 2 && ended < lesson.batch.segments.len(), "{ended}");
    let loss = lesson.objective.loss((&student).into(), &lesson.batch)?;
    let constant = student.clone().without_autodiff();
    let expected: f64 = contexts(&lesson.batch)
        .iter()
        .map(|(text, _)| {
            let (q, p) = (log_probabilities(&constant, text), log_probabilities(&teacher, text));
            q.iter().zip(p).map(|(q, p)| q.exp() * (q - p)).sum::<f64>()
        })
        .sum();
    let actual = f64::from(loss.loss_sum.into_scalar::<f32>());
    // 32-bit logits of models with small weights.
    assert!((actual - expected).abs() < 1e-3 * expected && expected > 1e-3, "{actual} {expected}");
    Ok(())
}

/// Mean of what `teacher` would have had to pay for what the model of a run says.
fn teacher_nll(sandbox: &Sandbox, teacher: &str, run: &str) -> anyhow::Result<f64> {
    let (data, tokenizer) = data(sandbox)?;
    let load = |run: &str| -> anyhow::Result<Transformer> {
        Ok(load_directory(&resolve(&sandbox.path(run))?.path, &cpu().autodiff())?)
    };
    let (student, teacher) = (load(run)?, load(teacher)?);
    let on_policy = on_policy(student.clone(), tokenizer.stop_ids(), Divergence::ForwardKl {});
    let lesson = on_policy.lesson(&student, &data, &data.fixed_batch(0, 64), 64, 1)?.context("prompts")?;
    let loss = next_token_loss((&teacher).into(), &lesson.batch);
    Ok(f64::from(loss.loss_sum.into_scalar::<f32>()) / lesson.batch.target_tokens() as f64)
}

/// Experiment A13 in small: what the student says becomes more likely to its teacher, and held-out text not less so; with a
/// random model as the teacher it does not.
#[test]
fn a_student_that_learns_from_its_own_samples_says_what_its_teacher_would() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    sandbox.stage("prepare", &[])?.complete()?;
    let long = ["--set", "train.max_steps=150", "--set", "optimizer.learning_rate=1e-2"];
    sandbox.stage("pretrain", &long)?.complete()?;
    sandbox.stage("sft", &[])?.complete()?;
    let none = ["--set", "train.max_steps=1", "--set", "optimizer.learning_rate=1e-9", "--out", "random"];
    sandbox.stage("pretrain", &[&none[..], &["--set", "schedule.warmup_steps=1"]].concat())?.complete()?;
    let off = ["train.max_steps=60", "optimizer.learning_rate=1e-2", "distill.temperature=1.0"];
    distill(&sandbox, "off", &off)?;
    let on = [
        "start={kind=\"checkpoint\", from=\"off\"}",
        "model=",
        "train.max_steps=60",
        "optimizer.learning_rate=3e-3",
        "distill.temperature=1.0",
        "distill.divergence.kind=reverse_kl",
        "on_policy.fraction=1.0",
        SECTION[1],
        SECTION[2],
    ];
    distill(&sandbox, "on", &on)?;
    distill(&sandbox, "misled", &[&on[..], &["teacher.from=random"]].concat())?;
    let held_out = |run: &str| -> anyhow::Result<f64> {
        let last = rows(&sandbox, run)?.pop().context("a row")?;
        last["valid_loss_nats"].as_f64().context("an evaluation")
    };
    let nll = |run: &str| teacher_nll(&sandbox, SFT, run);
    let (before, after, misled) = (nll("off")?, nll("on")?, nll("misled")?);
    let (loss_before, loss_after) = (held_out("off")?, held_out("on")?);
    println!("teacher's nats/token of samples: {before:.3} -> {after:.3}, misled {misled:.3}");
    println!("held out: {loss_before:.3} -> {loss_after:.3}");
    assert!(after < before - 0.1, "{before} {after}");
    assert!(misled > before, "{before} {misled}");
    assert!(loss_after < loss_before + 0.02, "{loss_before} {loss_after}");
    Ok(())
}

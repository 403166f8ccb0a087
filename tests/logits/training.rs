//! What is learned from a cache.

use super::{CACHE, FULL, capture, distill, metric};
use crate::support::files::hashes;
use crate::support::sandbox::Sandbox;

const LAST: &str = "step-00000012";

/// The weights and the optimizer's state after the last step.
fn outcome(sandbox: &Sandbox, run: &str) -> anyhow::Result<[String; 2]> {
    let hashes = hashes(&sandbox.path(run).join(LAST))?;
    Ok(["model.safetensors", "optimizer.safetensors"].map(|file| hashes[file].clone()))
}

/// The largest difference of two runs' losses.
fn largest_difference(sandbox: &Sandbox, one: &str, other: &str) -> anyhow::Result<f64> {
    let (one, other) = (metric(sandbox, one, "loss_nats")?, metric(sandbox, other, "loss_nats")?);
    assert_eq!(one.len(), other.len());
    Ok(one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max))
}

#[test]
fn full_logits_train_bit_for_bit_as_the_teacher_beside_the_student() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    for precision in ["train.precision=fp32", "train.precision=bf16"] {
        let name = |what: &str| format!("runs/{what}-{}", &precision[16..]);
        let (online, cached) = (name("online"), name("cached"));
        distill(&sandbox, &["--out", &online], &[precision])?.complete()?;
        capture(&sandbox, &[FULL, precision])?;
        distill(&sandbox, &["--out", &cached], &[CACHE, precision])?.complete()?;
        assert_eq!(largest_difference(&sandbox, &online, &cached)?, 0.0, "{precision}");
        assert_eq!(outcome(&sandbox, &online)?, outcome(&sandbox, &cached)?, "{precision}");
        std::fs::remove_dir_all(sandbox.path("cache"))?;
    }
    Ok(())
}

#[test]
fn full_logits_captured_in_other_batches_give_the_same_losses_to_rounding() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let precision = "train.precision=fp32";
    distill(&sandbox, &["--out", "online"], &[precision])?.complete()?;
    capture(&sandbox, &[FULL, precision, "train.micro_batch_size=3"])?;
    distill(&sandbox, &["--out", "cached"], &[CACHE, precision])?.complete()?;
    let difference = largest_difference(&sandbox, "online", "cached")?;
    // What the issue asks for; a 32-bit sum in another order differs by less.
    assert!(difference < 1e-5, "{difference}");
    Ok(())
}

#[test]
fn one_cache_serves_every_seed_weight_and_batch() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    capture(&sandbox, &["capture.codec={kind=\"random_sampling\", sets=2}"])?;
    // Without the teacher at hand.
    let sets = [CACHE, "teacher.from=", "run.seed=9", "data.train.0.weight=1.0", "train.micro_batch_size=6"];
    let step = distill(&sandbox, &["--out", "other"], &sets)?.complete()?;
    let manifest: serde_json::Value = serde_json::from_str(&sandbox.read(&format!("{step}/manifest.json"))?)?;
    assert_eq!(manifest["teacher"]["path"], "cache");
    assert_eq!(manifest["teacher"]["hash"].as_str().map(str::len), Some(64));
    Ok(())
}

/// The thread that reads ahead must not need a worker of the pool that waits for it.
#[test]
fn one_thread_is_enough() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    capture(&sandbox, &[])?;
    let line = format!("RAYON_NUM_THREADS=1 timeout 120 distill --config configs/distill.toml --out one --set {CACHE}");
    sandbox.bash(&line)?.complete()?;
    Ok(())
}

#[test]
fn a_student_of_sampled_ids_ends_near_that_of_the_teacher() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    // Long enough for a student to be apart from its start.
    let length = ["train.max_steps=60", "train.eval_every=60", "optimizer.learning_rate=1e-2", "distill.ce_weight=0.0"];
    let valid = |run: &str, sets: &[&str]| -> anyhow::Result<f64> {
        distill(&sandbox, &["--out", run], &[&length[..], sets].concat())?.complete()?;
        let text = sandbox.read(&format!("{run}/metrics.jsonl"))?;
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
        last["valid_loss_nats"].as_f64().ok_or_else(|| anyhow::anyhow!("no evaluation: {last}"))
    };
    capture(&sandbox, &[])?;
    let online = valid("online", &[])?;
    let start = valid("start", &["optimizer.learning_rate=1e-9"])?;
    let sampled = valid("sampled", &[CACHE])?;
    println!("sampled: {sampled:.4}, beside the teacher {online:.4}, before {start:.4}");
    assert!(start - online > 0.2, "the teacher teaches something: {start} to {online}");
    assert!((sampled - online).abs() < 0.1 * (start - online), "{sampled}, online {online}, start {start}");
    Ok(())
}

//! `train.precision`, and the vector instructions that `LIMBECK_SIMD` names.

use limbeck_kernels::{SIMD_VARIABLE, simd_levels};
use limbeck_train::MetricsRow;

use crate::support::sandbox::Sandbox;

/// Losses of the steps of a run.
fn losses(sandbox: &Sandbox, level: &str, precision: &str) -> anyhow::Result<Vec<f32>> {
    let out = format!("runs/{level}-{precision}");
    let arguments = ["--out", &out, "--set", &format!("train.precision={precision}")];
    let mut command = sandbox.stage_command("pretrain", &arguments);
    let output = command.env(SIMD_VARIABLE, level).output()?;
    anyhow::ensure!(output.status.success(), "{level}: {}", String::from_utf8_lossy(&output.stderr));
    let rows = sandbox.read(&format!("{out}/metrics.jsonl"))?;
    rows.lines().map(|row| Ok(serde_json::from_str::<MetricsRow>(row)?.loss_nats)).collect()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f32::max)
}

#[test]
fn every_level_of_instructions_trains_to_the_same_losses() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let levels = simd_levels();
    assert_eq!(levels.last(), Some(&"portable"));
    let [fp32, bf16] = ["fp32", "bf16"].map(|precision| losses(&sandbox, "portable", precision));
    let (fp32, bf16) = (fp32?, bf16?);
    for level in levels.iter().filter(|level| **level != "portable") {
        // Sums in another order, over twelve steps.
        assert!(worst(&losses(&sandbox, level, "fp32")?, &fp32) < 1e-5, "{level}");
        // As far apart as two runs with roundings of 8 bits in other places; the levels with instructions of their own
        // flush subnormal factors too.
        assert!(worst(&losses(&sandbox, level, "bf16")?, &bf16) < 2e-3, "{level}");
    }
    // The control: the two precisions are not one.
    let distance = worst(&fp32, &bf16);
    assert!(distance > 1e-6 && distance < 5e-3, "{distance}");
    Ok(())
}

#[test]
fn the_precision_that_was_chosen_is_said_and_written() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let named = sandbox.stage("pretrain", &["--check", "--set", "train.precision=bf16"])?;
    named.says(&["precision: bf16 (train.precision)"])?;
    sandbox.stage("pretrain", &["--check"])?.says(&["precision: ", "(the fastest of this device)"])
}

#[test]
fn a_precision_that_the_device_lacks_is_refused_with_those_that_it_has() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let refused = sandbox.stage("pretrain", &["--set", "train.precision=fp16"])?;
    refused.refused(2, &["train.precision is `fp16`, must be `fp32` or `bf16` on this device; hint: leave it out"])
}

#[test]
fn a_level_that_is_none_is_refused_with_those_that_are() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let output = sandbox.stage_command("pretrain", &[]).env(SIMD_VARIABLE, "sse9").output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("LIMBECK_SIMD is `sse9`, must be one of") && said.contains("portable; hint: "), "{said}");
    Ok(())
}

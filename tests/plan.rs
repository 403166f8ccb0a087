//! `plan` as a user meets it.

use serde_json::Value;

use crate::support::sandbox::{SFT, Sandbox};

const BUDGET: &str = "memory=64MB,latency=20ms,context=256";

#[test]
fn a_plan_for_a_teacher_on_disk() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let base = ["--budget", BUDGET, "--teacher", SFT, "--tokens", "3e8", "--gflops", "100"];
    let table = sandbox.run("plan", &base)?.complete()?;
    for fragment in
        ["shapes fit in gguf_q4_0", "tokens needed", "[model]\nvocab_size = 420\n", "max_position_embeddings = 256"]
    {
        assert!(table.contains(fragment), "`{fragment}` is not in:\n{table}");
    }
    let json = sandbox.run("plan", &[&base[..], &["--json"]].concat())?.complete()?;
    let plan: Value = serde_json::from_str(&json)?;
    // 12,096 weights of the teacher for a token, its attention in rows of 1,024: 4 · 2 · 16 · 512.5.
    let flops = plan["teacher_flops_per_token"].as_f64();
    assert_eq!(flops, Some(2.0 * 12_096.0 + 65_600.0), "{json}");
    let first = &plan["candidates"][0];
    let choice = format!("hidden_size = {}\n", first["hidden_size"]);
    assert!(table.contains(&choice), "{choice}: {table}");

    // Without a teacher the same shapes take fewer operations.
    let alone = ["--budget", BUDGET, "--vocab-size", "420", "--tokens", "3e8", "--gflops", "100", "--json"];
    let alone: Value = serde_json::from_str(&sandbox.run("plan", &alone)?.complete()?)?;
    assert_eq!(alone["fitting"], plan["fitting"]);
    assert!(alone["candidates"][0]["training_flops"].as_f64() < first["training_flops"].as_f64());
    Ok(())
}

#[test]
fn the_speed_is_measured_where_it_is_not_given() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let arguments = ["--budget", BUDGET, "--vocab-size", "420", "--tokens", "1e8", "--json", "--device", "cpu"];
    let plan: Value = serde_json::from_str(&sandbox.run("plan", &arguments)?.complete()?)?;
    // From a machine that does other things to the largest server.
    assert!(plan["flops_per_s"].as_f64().is_some_and(|flops| flops > 1e8 && flops < 1e14), "{plan}");
    Ok(())
}

#[test]
fn what_is_missing_or_does_not_fit_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let plan = |more: &[&str]| sandbox.run("plan", &[&["--tokens", "1e9", "--gflops", "100"][..], more].concat());
    plan(&[])?.refused(2, &["--budget <LIMITS>"])?;
    plan(&["--budget", BUDGET])?.refused(2, &["--vocab-size is missing", "hint: "])?;
    plan(&["--budget", "memory=1MB", "--vocab-size", "420"])?
        .refused(2, &["none of ", "fails for `memory`", "hint: "])?;
    plan(&["--budget", "memory=1GB,contxt=5", "--vocab-size", "420"])?
        .refused(2, &["`contxt` is not a key", "`context`"])?;
    plan(&["--budget", BUDGET, "--teacher", "nowhere"])?
        .refused(2, &["--teacher is `nowhere`", "does not exist", "hint: "])?;
    plan(&["--budget", BUDGET, "--vocab-size", "420", "--tokens", "no"])?.refused(2, &["cannot be used multiple times"])
}

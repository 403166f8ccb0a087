//! `bench` measures what it says, and programs can read it.

use serde_json::Value;

use crate::support::sandbox::Sandbox;

fn report(sandbox: &Sandbox, more: &[&str]) -> anyhow::Result<Value> {
    let arguments = [&["--model", "tiny", "--device", "cpu", "--precision", "fp32", "--json"][..], more].concat();
    Ok(serde_json::from_str(&sandbox.run("bench", &arguments)?.complete()?)?)
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

#[test]
fn the_shares_of_the_operators_sum_to_one() -> anyhow::Result<()> {
    let report = report(&Sandbox::with_configs()?, &["--steps", "2"])?;
    let shares = report["shares"].as_array().cloned().unwrap_or_default();
    let sum: f64 = shares.iter().map(|share| number(share, "/share")).sum();
    // Rounding of a dozen terms.
    assert!((sum - 1.0).abs() < 1e-12, "{report}");
    assert!(shares.iter().all(|share| (0.0..1.0).contains(&number(share, "/share"))), "{report}");
    for operator in ["RMSNorm", "SwiGLU", "AdamW", "outside the operators"] {
        assert!(shares.iter().any(|share| share["operator"] == operator), "{operator} is not in {report}");
    }
    Ok(())
}

#[test]
fn numbers_of_a_measurement_belong_together() -> anyhow::Result<()> {
    let report = report(&Sandbox::with_configs()?, &["--steps", "3"])?;
    let steps = |key: &str| report[key].as_array().map_or(0, Vec::len);
    assert_eq!((number(&report, "/steps"), number(&report, "/warmup_steps"), steps("losses_nats")), (3.0, 3.0, 6));
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b} {report}");
    close(number(&report, "/tokens_per_s/median"), 66.0 / number(&report, "/step_s/median"));
    close(number(&report, "/tokens_per_s/max"), 66.0 / number(&report, "/step_s/min"));
    // Counted by hand in `pipeline/src/bench/shape.rs`.
    close(number(&report, "/gflop_per_step"), 5_368_968e-9);
    close(number(&report, "/gflop_per_s"), 5_368_968e-9 / number(&report, "/step_s/median"));
    close(number(&report, "/share_of_peak"), number(&report, "/gflop_per_s") / number(&report, "/peak_gflop_per_s"));
    // The sandbox runs everything on two threads.
    assert_eq!(number(&report, "/threads"), 2.0);
    Ok(())
}

#[test]
fn the_first_loss_is_that_of_a_model_that_knows_nothing_and_then_it_falls() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let first = report(&sandbox, &["--steps", "20"])?;
    let losses: Vec<f64> = first["losses_nats"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    // The logits' deviation is 0.02 · √26: ln 59 and half their variance, give or take 0.1 / √66 twice.
    assert!((losses[0] - 59f64.ln() - 0.005).abs() < 0.025, "{losses:?}");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[18..]) < mean(&losses[..5]) - 0.02, "{losses:?}");
    // Rows and weights are the same in every run.
    assert_eq!(report(&sandbox, &["--steps", "20"])?["losses_nats"], first["losses_nats"]);
    Ok(())
}

#[test]
fn bf16_rounds_and_trains_the_same() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let losses = |precision: &str| -> anyhow::Result<Vec<f64>> {
        let arguments = ["--model", "tiny", "--device", "cpu", "--precision", precision, "--steps", "5", "--json"];
        let report: Value = serde_json::from_str(&sandbox.run("bench", &arguments)?.complete()?)?;
        assert_eq!(report["precision"], precision);
        Ok(report["losses_nats"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect())
    };
    for (fp32, bf16) in losses("fp32")?.into_iter().zip(losses("bf16")?) {
        // Logits of a tenth, rounded to 8 bits.
        assert!(fp32 != bf16 && (fp32 - bf16).abs() < 2e-3, "{fp32} {bf16}");
    }
    Ok(())
}

#[test]
fn dumped_weights_have_the_names_and_shapes_of_hugging_face() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    report(&sandbox, &["--steps", "1", "--dump-weights", "weights.safetensors"])?;
    let bytes = std::fs::read(sandbox.path("weights.safetensors"))?;
    let tensors = safetensors::SafeTensors::deserialize(&bytes)?;
    let shape = |name: &str| tensors.tensor(name).map(|tensor| tensor.shape().to_vec());
    assert_eq!(shape("model.embed_tokens.weight")?, [59, 26]);
    assert_eq!(shape("model.layers.1.self_attn.k_proj.weight")?, [12, 26]);
    assert_eq!(shape("model.layers.0.self_attn.q_norm.weight")?, [4]);
    assert_eq!(tensors.names().len(), 2 * 11 + 2);
    Ok(())
}

#[test]
fn each_of_several_models_is_measured_in_a_process_of_its_own() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let both = sandbox.run("bench", &["--model", "tiny", "--model", "tiny", "--steps", "1", "--precision", "fp32"])?;
    let text = both.complete()?;
    assert_eq!(text.matches("tiny: 12600 parameters, ").count(), 2, "{text}");
    for row in ["tokens/s ", "useful GFLOP/s ", "of the measured peak ", "outside the operators "] {
        assert_eq!(text.matches(row).count(), 2, "{row}: {text}");
    }
    Ok(())
}

#[test]
fn a_step_of_distillation_is_set_beside_its_parts() -> anyhow::Result<()> {
    let report = report(&Sandbox::with_configs()?, &["--steps", "3", "--distill"])?;
    assert_eq!((number(&report, "/steps"), number(&report, "/parameters")), (3.0, 12_600.0));
    // Twice as wide, three blocks. Embedding 59·52; a block: matrices 2·48·52 + 2·24·52 + 3·52·92, norms 2·52 + 2·4; a norm.
    assert_eq!(number(&report, "/teacher_parameters"), 3_068.0 + 3.0 * (21_840.0 + 112.0) + 52.0);
    let median = |key: &str| number(&report, &format!("/{key}/median"));
    let parts = median("cross_entropy_s") + median("teacher_s");
    assert!((number(&report, "/ratio") - median("distillation_s") / parts).abs() < 1e-12, "{report}");
    Ok(())
}

#[test]
fn what_cannot_be_measured_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    sandbox.run("bench", &["--dump-weights", "all"])?.refused(2, &["--dump-weights takes one model", "hint: "])?;
    sandbox.run("bench", &["--model", "tiny", "--steps", "0"])?.refused(2, &["'0'", "--steps"])?;
    let unwritable = ["--model", "tiny", "--steps", "1", "--dump-weights", "no/such/directory/weights"];
    sandbox.run("bench", &unwritable)?.refused(2, &["no/such/directory/weights"])
}

#[test]
fn blocks_that_are_computed_again_and_16_bit_activations_take_less_memory() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let peak = |more: &[&str]| -> anyhow::Result<f64> {
        // Of a gigabyte: the allocator takes 32 MiB at a time, and how many it takes too many depends on what the threads were at.
        let arguments = ["--model", "28m", "--device", "cpu", "--json", "--steps", "1", "--precision"];
        let report: Value = serde_json::from_str(&sandbox.run("bench", &[&arguments, more].concat())?.complete()?)?;
        Ok(number(&report, "/peak_resident_bytes"))
    };
    let (kept, again, halves) = (peak(&["fp32"])?, peak(&["fp32", "--recompute"])?, peak(&["bf16"])?);
    if cfg!(target_os = "linux") {
        assert!(again < 0.85 * kept, "{again} of {kept}");
        assert!(halves < 0.93 * kept, "{halves} of {kept}");
    }
    Ok(())
}

use clap::Parser;
use limbeck_config::ModelSection;

use super::*;
use crate::fit::Budget;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: PlanArgs,
}

fn args(more: &[&str]) -> PlanArgs {
    let base = ["plan", "--tokens", "1e12", "--gflops", "100"];
    Command::try_parse_from(base.iter().chain(more)).expect("arguments").args
}

/// Of a student of 16,384 tokens whose teacher has two billion parameters.
fn planned(more: &[&str]) -> Plan {
    let teacher = ModelConfig {
        num_hidden_layers: 24,
        hidden_size: 2048,
        intermediate_size: 8192,
        ..crate::fit::tests::config()
    };
    plan(&args(more), 16_384, Some(&teacher), 1e11).expect("something fits")
}

#[test]
fn nothing_is_offered_that_does_not_fit() {
    for budget in ["memory=200MB", "latency=5ms", "memory=1GB,latency=20ms,context=4096", "memory=300MB,device=laptop"]
    {
        let plan = planned(&["--budget", budget, "--within", "5"]);
        let limits: Budget = budget.parse().expect(budget);
        assert!(plan.fitting < plan.shapes && !plan.candidates.is_empty(), "{budget}");
        for candidate in &plan.candidates {
            assert_ne!(candidate.verdict, Verdict::DoesNotFit);
            if let (Some(bytes), Verdict::Fits) = (limits.memory_bytes, candidate.verdict) {
                assert!(candidate.resident_bytes as f64 <= 0.8 * bytes as f64, "{budget}: {candidate:?}");
            }
            if let (Some(latency), Verdict::Fits) = (limits.latency_s, candidate.verdict) {
                assert!(candidate.expected_s <= latency, "{budget}: {candidate:?}");
            }
        }
    }
}

#[test]
fn a_larger_budget_fits_more_and_reaches_less_loss() {
    let plans =
        ["memory=150MB", "memory=300MB", "memory=1GB", "memory=4GB"].map(|budget| planned(&["--budget", budget]));
    for pair in plans.windows(2) {
        assert!(pair[0].fitting < pair[1].fitting && pair[0].best_loss_nats > pair[1].best_loss_nats);
    }
    // What is tight does not set a mark that nothing with room can reach.
    assert!(plans.iter().all(|plan| plan.candidates[0].verdict == Verdict::Fits));
    let fast = planned(&["--budget", "memory=1GB,device=laptop,latency=10ms"]);
    let slow = planned(&["--budget", "memory=1GB,device=raspberry-pi-5,latency=10ms"]);
    assert!(fast.fitting > slow.fitting);
}

#[test]
fn more_served_tokens_choose_a_smaller_model_that_trains_longer() {
    let choice = |served| {
        planned(&["--budget", "memory=2GB", "--within", "0.1", "--served-tokens", served]).candidates[0].clone()
    };
    let (few, many) = (choice("0"), choice("1e13"));
    assert!(many.parameters < few.parameters && many.tokens > few.tokens, "{few:?} {many:?}");
    // Of all that reach the target with the tokens there are, it is the one that takes least.
    let plan = planned(&["--budget", "memory=2GB", "--within", "0.1", "--served-tokens", "1e12"]);
    let fitting = plan.candidates.iter().filter(|candidate| candidate.verdict == Verdict::Fits);
    let least = fitting.map(|candidate| candidate.lifetime_flops).fold(f64::INFINITY, f64::min);
    assert_eq!(plan.candidates[0].lifetime_flops, least);
    assert!(plan.candidates.iter().all(|candidate| candidate.tokens <= 1e12));
}

/// The smallest shape: 4 blocks of 2·256·256 + 2·64·256 + 3·256·512 weights, an output of 16,384 · 256; a row of 1,024 tokens
/// has 524,800 pairs at 4 · 4 · 256 operations.
#[test]
fn the_cost_of_training_is_that_computed_by_hand() {
    let shapes = grid::shapes(16_384, 2048);
    let args = args(&["--budget", "memory=1GB"]);
    let weights = 4 * (131_072 + 32_768 + 393_216) + 4_194_304;
    let forward = 2.0 * f64::from(weights) + 4096.0 * 524_800.0 / 1024.0;
    assert_eq!(flops_per_token(&shapes[0], &args), forward);
    let judged = Judged::new(&shapes[0], &args, 2048);
    let cost = Cost { target_loss_nats: 5.0, teacher_flops_per_token: 1e9, flops_per_s: 2e10, args: &args };
    let found = cost.candidate(&judged).expect("within reach");
    // N = 6,427,136 (the norms of 4 · (512 + 128) + 256 with it): 406.4 / N^0.34 = 1.9697, so D = (410.7 / 1.3403)^(1/0.28).
    let parameters = f64::from(weights + 4 * 640 + 256);
    let tokens = (410.7 / (5.0 - 1.69 - 406.4 / parameters.powf(0.34))).powf(1.0 / 0.28);
    assert!((found.tokens / tokens - 1.0).abs() < 1e-9);
    let flops = tokens * (3.0 * forward + 1e9);
    assert!((found.training_flops / flops - 1.0).abs() < 1e-9);
    assert!((found.training_hours / (flops / 2e10 / 3600.0) - 1.0).abs() < 1e-9);
    // Served: 2 · weights and 4 · 4 · 256 for each of 2,048 positions.
    assert_eq!(judged.footprint.traffic.flops, 2 * weights as u64 + 4096 * 2048);
}

#[test]
fn what_fits_nowhere_is_refused_with_the_limit_that_decided() {
    for (budget, reason) in [("memory=20MB", "`memory`"), ("memory=1GB,latency=1us", "`latency`")] {
        let refused = plan(&args(&["--budget", budget]), 16_384, None, 1e11).expect_err(budget);
        assert_eq!(refused.status(), 2);
        let message = refused.to_string();
        assert!(message.contains(reason) && message.contains("hint: "), "{message}");
    }
}

#[test]
fn the_chosen_section_is_one_of_a_config() {
    let plan = planned(&["--budget", "memory=500MB,context=512"]);
    let text = text::model_section(&plan.candidates[0], 16_384, 512);
    let section: ModelSection = toml::from_str(text.strip_prefix("[model]\n").expect("its header")).expect("a section");
    let shape = section.resolve(16_384, 512).expect("a valid shape");
    assert_eq!(shape.parameter_count(), plan.candidates[0].parameters);
}

#[test]
fn arguments_are_refused_by_name() {
    for (more, expected) in [
        (["--format", "gguf_q4"], "gguf_q4_0"),
        (["--served-tokens", "many"], "such as `3e8`"),
        (["--within=-1", "--json"], "must be from `0` to `10`"),
        (["--rows", "0"], "1.."),
    ] {
        let base = ["plan", "--tokens", "1e10", "--budget", "memory=1GB"];
        let error = Command::try_parse_from(base.iter().chain(&more)).err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

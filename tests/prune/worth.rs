//! What a student that is cut is worth: against one of random weights, and against a cut by chance.

use limbeck_config::{DataEntry, DataKind, ModelConfig};
use limbeck_data::{Batch, Mixture};
use limbeck_model::{BlockCut, Cut};
use limbeck_train::{calibration_loss, prune};
use serde_json::Value;

use crate::support::devices::cpu;
use crate::support::numbers::Numbers;
use crate::support::sandbox::{Sandbox, TEACHER};

/// The sandbox with a teacher that has learned something.
fn with_a_teacher() -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::with_configs()?;
    sandbox.stage("prepare", &["--set", "corpus.train_documents=3000"])?.complete()?;
    let sets = [
        "model={hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2}",
        "train.max_steps=400",
        "train.tokens_per_step=1152",
        "train.micro_batch_size=24",
        "train.eval_every=400",
        "optimizer.learning_rate=6e-3",
        "schedule.warmup_steps=20",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    sandbox.stage("pretrain", &sets)?.complete()?;
    Ok(sandbox)
}

/// What the student is cut to, as keys of `[start]` or of `[model]`.
const STUDENT_SHAPE: &str =
    "num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1";

/// Held-out losses of a student over its run.
fn held_out(sandbox: &Sandbox, out: &str, sets: &[String]) -> anyhow::Result<Vec<f64>> {
    let own = ["train.max_steps=40", "train.eval_every=10", "train.tokens_per_step=1152", "train.micro_batch_size=24"];
    let teacher = format!("teacher.from={TEACHER}");
    let sets = own.into_iter().chain([teacher.as_str()]).chain(sets.iter().map(String::as_str));
    let sets: Vec<&str> = sets.flat_map(|set| ["--set", set]).collect();
    sandbox.stage("distill", &[&["--out", out][..], &sets].concat())?.complete()?;
    let text = sandbox.read(&format!("{out}/metrics.jsonl"))?;
    let rows = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok(rows.iter().filter_map(|row| row["valid_loss_nats"].as_f64()).collect())
}

#[test]
fn a_student_that_is_cut_is_ahead_of_a_random_one_at_every_evaluation() -> anyhow::Result<()> {
    let sandbox = with_a_teacher()?;
    for seed in [1, 2, 3] {
        let seed = |set: String| vec![set, format!("run.seed={seed}")];
        let start = format!("start={{kind=\"prune\", from=\"{TEACHER}\", {STUDENT_SHAPE}}}");
        let cut = [seed(start), vec!["model=".to_owned()]].concat();
        let random = seed(format!("model={{{STUDENT_SHAPE}, head_dim=12}}"));
        let name = |kind: &str| format!("{kind}{}", random[1]);
        let (cut, random) = (held_out(&sandbox, &name("cut"), &cut)?, held_out(&sandbox, &name("random"), &random)?);
        println!("cut {cut:.3?}, random {random:.3?}");
        assert_eq!((cut.len(), random.len()), (4, 4));
        assert!(cut.iter().zip(&random).all(|(cut, random)| cut < random), "cut {cut:?}, random {random:?}");
    }
    Ok(())
}

/// `count` of `0..end`, drawn, in order.
fn drawn(numbers: &mut Numbers, end: usize, count: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..end).collect();
    let mut drawn: Vec<usize> = (0..count).map(|_| left.swap_remove(numbers.below(left.len()) as usize)).collect();
    drawn.sort_unstable();
    drawn
}

/// A cut to `shape` by chance; whole groups of heads.
fn by_chance(numbers: &mut Numbers, whole: &ModelConfig, shape: &ModelConfig) -> Cut {
    let mut cut = Cut::nothing(whole);
    cut.channels = drawn(numbers, whole.hidden_size, shape.hidden_size);
    cut.blocks = drawn(numbers, whole.num_hidden_layers, shape.num_hidden_layers)
        .into_iter()
        .map(|block| {
            let key_value_heads = drawn(numbers, whole.num_key_value_heads, shape.num_key_value_heads);
            let group = whole.num_attention_heads / whole.num_key_value_heads;
            let heads = key_value_heads.iter().flat_map(|head| head * group..(head + 1) * group).collect();
            let neurons = drawn(numbers, whole.intermediate_size, shape.intermediate_size);
            BlockCut { neurons, heads, key_value_heads, ..cut.blocks[block].clone() }
        })
        .collect();
    cut
}

#[test]
fn importance_beats_chance_before_any_training() -> anyhow::Result<()> {
    let sandbox = with_a_teacher()?;
    let source = limbeck::source::open("teacher", &sandbox.path(TEACHER), &cpu());
    let source = source.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let entry = |name: &str| DataEntry {
        path: sandbox.path(name).display().to_string(),
        kind: DataKind::Documents,
        column: None,
        prompt_column: None,
        completion_column: None,
        weight: 1.0,
    };
    let rows = |name: &str| -> anyhow::Result<Vec<Batch>> {
        let mixture = Mixture::open(&[entry(name)], &source.tokenizer, 48, 3, &sandbox.path("cache"), &|_| ())?;
        Ok(mixture.batch(0, 60).micro_batches(20))
    };
    let (train, valid) = (rows("data/tiny/train.parquet")?, rows("data/tiny/valid.parquet")?);
    let whole = source.model.config();
    // Each size alone, and all of them.
    let blocks = ModelConfig { num_hidden_layers: 2, ..whole.clone() };
    let channels = ModelConfig { hidden_size: 42, ..whole.clone() };
    let neurons = ModelConfig { intermediate_size: 48, ..whole.clone() };
    let heads = ModelConfig { num_attention_heads: 2, num_key_value_heads: 1, ..whole.clone() };
    let all = ModelConfig {
        num_hidden_layers: 3,
        hidden_size: 42,
        intermediate_size: 80,
        ..ModelConfig { num_attention_heads: 2, num_key_value_heads: 1, ..whole.clone() }
    };
    let mut numbers = Numbers::new(4);
    for (what, shape) in
        [("blocks", blocks), ("channels", channels), ("neurons", neurons), ("heads", heads), ("all", all)]
    {
        let pruned = prune(&source.model, None, &shape, &train, &cpu(), &mut |_| ())?;
        // On other data than it was chosen on.
        let chosen = calibration_loss(&pruned.model, &valid)?;
        let chance: Vec<f64> = (0..5)
            .map(|_| {
                Ok(calibration_loss(&by_chance(&mut numbers, whole, &shape).apply(&source.model, &cpu())?, &valid)?)
            })
            .collect::<anyhow::Result<_>>()?;
        let mean = chance.iter().sum::<f64>() / chance.len() as f64;
        println!("{what}: {chosen:.3} nats, by chance {chance:.3?}");
        assert!(chance.iter().all(|chance| chosen <= *chance), "{what}: {chosen}, by chance {chance:?}");
        assert!(chosen < mean - 0.02, "{what}: {chosen}, by chance {chance:?}");
    }
    Ok(())
}

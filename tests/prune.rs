//! A student cut from its teacher: what goes, that it is what matters least, and what it is worth.

use anyhow::Context;
use limbeck_config::{Architecture, DataEntry, DataKind, ModelConfig};
use limbeck_data::{Batch, Mixture};
use limbeck_model::{BlockCut, Cut, NamedTensors, Transformer, load_parameters, parameters};
use limbeck_train::{PruneReport, Pruned, calibration_loss, prune};
use serde_json::Value;

use crate::support::batches::documents;
use crate::support::devices::cpu;
use crate::support::distance::{max_abs, values};
use crate::support::files::{hashes, names};
use crate::support::models::small;
use crate::support::numbers::Numbers;
use crate::support::sandbox::{SFT, STUDENT, Sandbox, TEACHER};

/// The block, the channels and, in each other block, the neurons and heads of which [`with_dead_parts`] makes nothing.
const DEAD_BLOCK: usize = 2;
const DEAD_CHANNELS: [usize; 4] = [0, 7, 19, 25];
/// By block: half of them never fire, half of them are not read.
const DEAD_NEURONS: [[usize; 3]; 4] = [[1, 8, 45], [0, 30, 31], [5, 6, 7], [12, 13, 44]];
/// By block: a whole group, two query heads with one key-value head, and then one head of each other group.
const DEAD_HEADS: [[usize; 4]; 4] = [[0, 1, 3, 4], [2, 3, 0, 5], [0, 1, 2, 3], [4, 5, 1, 2]];

fn shape(architecture: Architecture) -> ModelConfig {
    ModelConfig { num_hidden_layers: 4, ..small(architecture) }
}

/// What is left of [`shape`] without the dead parts: one of two query heads of two of three groups.
fn alive(whole: &ModelConfig) -> ModelConfig {
    ModelConfig {
        num_hidden_layers: 3,
        hidden_size: whole.hidden_size - DEAD_CHANNELS.len(),
        intermediate_size: whole.intermediate_size - 3,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        ..whole.clone()
    }
}

fn fill(tensors: &mut NamedTensors, name: &str, rows: &[usize], columns: &[usize]) {
    let tensor = tensors.get_mut(name).unwrap_or_else(|| panic!("{name}"));
    let width = tensor.shape[1];
    for (place, value) in tensor.values.iter_mut().enumerate() {
        if rows.contains(&(place / width)) || columns.contains(&(place % width)) {
            *value = 0.0;
        }
    }
}

/// A model parts of which contribute nothing. Activations are of the size of 1, beside which the norms' epsilon is nothing.
fn with_dead_parts(architecture: Architecture) -> anyhow::Result<Transformer> {
    let config = shape(architecture);
    let mut tensors = parameters(&Transformer::new(&config, 5, &cpu()));
    let mut numbers = Numbers::new(6);
    for tensor in tensors.values_mut() {
        match tensor.shape.len() {
            1 => tensor.values.iter_mut().zip(numbers.uniform(tensor.shape[0])).for_each(|(v, u)| *v += u / 2.0),
            _ => tensor.values.iter_mut().for_each(|value| *value *= 12.0),
        }
    }
    fill(&mut tensors, "model.embed_tokens.weight", &[], &DEAD_CHANNELS);
    for block in 0..config.num_hidden_layers {
        let name = |parameter: &str| format!("model.layers.{block}.{parameter}.weight");
        fill(&mut tensors, &name("self_attn.o_proj"), &DEAD_CHANNELS, &[]);
        fill(&mut tensors, &name("mlp.down_proj"), &DEAD_CHANNELS, &DEAD_NEURONS[block][..1]);
        fill(&mut tensors, &name("mlp.up_proj"), &DEAD_NEURONS[block][1..], &[]);
        let dims = |head: &usize| head * config.head_dim..(head + 1) * config.head_dim;
        let unread: Vec<usize> = DEAD_HEADS[block].iter().flat_map(dims).collect();
        fill(&mut tensors, &name("self_attn.o_proj"), &[], &unread);
    }
    for matrix in ["self_attn.o_proj", "mlp.down_proj"] {
        let name = format!("model.layers.{DEAD_BLOCK}.{matrix}.weight");
        tensors.get_mut(&name).context("a matrix")?.values.fill(0.0);
    }
    Ok(load_parameters(Transformer::zeros(&config, &cpu()), tensors)?)
}

fn logits(model: &Transformer, batch: &Batch) -> Vec<f32> {
    values(model.logits(&batch.inputs, &batch.positions, batch.sequence_length))
}

/// The largest difference of the logits, over the largest logit.
fn difference(one: &Transformer, other: &Transformer, batch: &Batch) -> f64 {
    let expected = logits(one, batch);
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    max_abs(&logits(other, batch), &expected) / f64::from(largest)
}

fn most_likely(model: &Transformer, batch: &Batch) -> Vec<u32> {
    let best = |row: &[f32]| (0..row.len()).max_by(|one, other| row[*one].total_cmp(&row[*other])).unwrap_or(0) as u32;
    logits(model, batch).chunks(model.config().vocab_size).map(best).collect()
}

#[test]
fn what_contributes_nothing_is_what_goes_and_the_logits_stay() -> anyhow::Result<()> {
    for architecture in [Architecture::Qwen3, Architecture::Llama] {
        let teacher = with_dead_parts(architecture)?;
        let config = teacher.config().clone();
        let mut calibration = documents(7, 4, 23, config.vocab_size);
        // What the teacher says itself: whatever changes it makes this likely less.
        calibration.targets = most_likely(&teacher, &calibration);
        let batches = calibration.micro_batches(2);
        let Pruned { model, report } = prune(&teacher, None, &alive(&config), &batches, &cpu(), &mut |_| ())?;
        assert_eq!(model.config(), &alive(&config));
        let other = documents(8, 3, 31, config.vocab_size);
        // 32-bit sums over fewer terms, and an epsilon that counts for fewer channels.
        let difference = difference(&teacher, &model, &other);
        assert!(difference < 1e-5, "{architecture:?}: {difference}");
        assert_found(&report, &config);
    }
    Ok(())
}

/// The report names exactly the dead parts.
fn assert_found(report: &PruneReport, whole: &ModelConfig) {
    assert_eq!(report.removed.removed.iter().map(|removed| removed.block).collect::<Vec<_>>(), [DEAD_BLOCK]);
    assert_eq!(report.removed.loss_without_nats.len(), 4);
    assert!((report.removed.loss_without_nats[DEAD_BLOCK] - report.loss_nats.before).abs() < 1e-6);
    assert_eq!(report.channels.dropped, DEAD_CHANNELS);
    assert_eq!(report.channels.dropped_share, 0.0);
    assert_eq!(report.blocks.iter().map(|block| block.block).collect::<Vec<_>>(), [0, 1, 3]);
    for block in &report.blocks {
        let mut heads = DEAD_HEADS[block.block];
        heads.sort_unstable();
        assert_eq!((&block.dropped_heads[..], block.dropped_heads_share), (&heads[..], 0.0));
        assert_eq!((block.neurons.before, block.neurons.after), (46, 43));
        assert_eq!(block.dropped_neurons_share, 0.0);
    }
    assert!((report.loss_nats.after - report.loss_nats.before).abs() < 1e-5);
    assert_eq!(report.parameters.before, whole.parameter_count());
    assert_eq!(report.parameters.after, alive(whole).parameter_count());
}

#[test]
fn without_something_that_counts_the_logits_are_others() -> anyhow::Result<()> {
    let teacher = with_dead_parts(Architecture::Llama)?;
    let config = teacher.config().clone();
    let batch = documents(8, 3, 31, config.vocab_size);
    let without = |change: &dyn Fn(&mut Cut)| -> anyhow::Result<f64> {
        let mut cut = Cut::nothing(&config);
        change(&mut cut);
        Ok(difference(&teacher, &cut.apply(&teacher, &cpu())?, &batch))
    };
    assert_eq!(without(&|_| ())?, 0.0);
    assert_eq!(without(&|cut| drop(cut.blocks.remove(DEAD_BLOCK)))?, 0.0);
    assert!(without(&|cut| drop(cut.blocks.remove(1)))? > 1e-3);
    let each = |cut: &mut Cut, change: fn(&mut BlockCut)| cut.blocks.iter_mut().for_each(change);
    assert!(without(&|cut| each(cut, |block| _ = block.neurons.remove(20)))? > 1e-3);
    assert!(without(&|cut| _ = cut.channels.remove(3))? > 1e-3);
    // Dead channels alone, without what their norms need.
    assert!(without(&|cut| cut.channels.retain(|channel| !DEAD_CHANNELS.contains(channel)))? > 1e-3);
    Ok(())
}

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
        [".lock", "config.toml", "metrics.jsonl", "prune.json", "step-00000008", "step-00000012"]
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

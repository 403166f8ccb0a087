//! Does distilling help, and would these experiments show it if it did not? Minutes each, so they run by hand:
//! `cargo test --release --bench experiments -- --nocapture --test-threads=1`.

mod cost;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use limbeck_config::{
    DataEntry, DataKind, LogitsCodec, ModelConfig, OptimizerSection, PrepareConfig, ScheduleSection, TrainingStage,
    load, load_training,
};
use limbeck_data::world::{Split, World, WorldCounts, write_parquet};
use limbeck_data::{Batch, Mixture, Tokenizer};
use limbeck_kernels::{HeadLoss, Precision, linear, loss_head};
use limbeck_logits::{Cache, CacheHeader, Capture, Expected, Identity, Shard};
use limbeck_loss::{DivergenceLoss, MixedLoss};
use limbeck_model::{Transformer, fingerprint};
use limbeck_train::{
    AdamW, Distillation, Learner, NextToken, Objective, Score, Teacher, TrainError, Trainer, evaluate, learning_rate,
};

const LENGTH: usize = 256;
const ROWS: usize = 8;
const SEEDS: u64 = 3;
/// Of the two arms that are to be alike: seeds scatter by more than they may differ.
const SEEDS_OF_ALIKE: u64 = 16;

/// The embedded world, a teacher of all of it, and the few documents that students see.
struct Bench {
    directory: tempfile::TempDir,
    tokenizer: Tokenizer,
    /// Of the student.
    shape: ModelConfig,
    teacher: Transformer,
}

impl Bench {
    /// The tiny config's teacher and student; the teacher learns from 12,000 documents for `steps`.
    fn new(steps: u64) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/tiny");
        let prepare: PrepareConfig = load(&configs.join("prepare.toml"), &[])?;
        for (name, train_documents) in [("all", 12_000), ("few", 700)] {
            let counts = WorldCounts { train_documents, valid_documents: 600, train_chats: 1, valid_chats: 1 };
            write_parquet(&directory.path().join(name), &counts, prepare.run.seed)?;
        }
        let world = World::new(prepare.run.seed);
        let texts = world.documents(Split::Train, 12_000).map(|document| Ok(document.text));
        let tokenizer = Tokenizer::train(texts, 1024)?;
        let shape = |stage: TrainingStage, file: &str| -> anyhow::Result<ModelConfig> {
            let config = load_training(stage, &configs.join(file), &[])?;
            let model = config.model.ok_or_else(|| anyhow::anyhow!("{file} has no [model]"))?;
            model.resolve(tokenizer.vocab_size(), LENGTH).map_err(|problems| anyhow::anyhow!("{problems:?}"))
        };
        let (large, small) =
            (shape(TrainingStage::Pretrain, "pretrain.toml")?, shape(TrainingStage::Distill, "distill.toml")?);
        let teacher = Transformer::new(&large, 0, &Device::flex());
        let mut bench = Self { directory, tokenizer, shape: small, teacher };
        let started = Instant::now();
        bench.teacher = bench.trained(&large, &NextToken, "all", 2e-3, 0, steps)?.without_autodiff();
        println!(
            "teacher: {} parameters, {steps} steps, {:.4} nats, {:.0} s",
            large.parameter_count(),
            bench.held_out(&bench.teacher)?,
            started.elapsed().as_secs_f64()
        );
        Ok(bench)
    }

    fn data(&self, which: &str, seed: u64) -> anyhow::Result<Mixture> {
        let path = self.directory.path().join(which).join("train.parquet");
        Ok(Mixture::open(&[entry(&path)], &self.tokenizer, LENGTH, seed, &self.cache(), &|_| ())?)
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn trained(
        &self,
        shape: &ModelConfig,
        objective: &dyn Objective,
        data: &str,
        rate: f64,
        seed: u64,
        steps: u64,
    ) -> anyhow::Result<Transformer> {
        let data = self.data(data, seed)?;
        let schedule = ScheduleSection::Cosine { warmup_steps: 50, final_ratio: 0.1 };
        let model = Transformer::new(shape, seed, &Device::flex().autodiff());
        let mut trainer = Trainer::new(model, AdamW::new(&OptimizerSection::new(rate))?);
        for step in 0..steps {
            let batch = data.batch(step * ROWS as u64, ROWS);
            (trainer, _) = trainer.step(objective, &[batch], step + 1, learning_rate(&schedule, step, steps))?;
        }
        Ok(trainer.model)
    }

    /// Nats a token, of the hard labels.
    fn held_out(&self, model: &Transformer) -> anyhow::Result<f64> {
        let path = self.directory.path().join("all/valid.parquet");
        let data = Mixture::open(&[entry(&path)], &self.tokenizer, LENGTH, 0, &self.cache(), &|_| ())?;
        Ok(Score::total(&evaluate(model, &data, 16, || ())).loss_nats())
    }

    /// The held-out loss of a student that saw the few documents.
    fn student(&self, objective: &dyn Objective, rate: f64, seed: u64) -> anyhow::Result<f64> {
        self.held_out(&self.trained(&self.shape, objective, "few", rate, seed, STUDENT_STEPS)?)
    }

    fn online(&self, teacher: &Transformer) -> Distillation {
        distillation(Teacher::Online(Box::new(teacher.clone())))
    }

    /// The teacher's logits of the few documents, with the bytes that a target takes.
    fn cached(&self, codec: LogitsCodec) -> anyhow::Result<(Distillation, f64)> {
        let data = self.data("few", 0)?;
        let directory = self.directory.path().join(format!("{codec:?}"));
        let identity = Identity {
            data: data.segments_fingerprint(),
            tokenizer: self.tokenizer.hash(),
            teacher: fingerprint(&self.teacher),
            sequence_length: LENGTH as u64,
            vocab_size: self.tokenizer.vocab_size() as u64,
        };
        let expected = Expected {
            data: identity.data.clone(),
            tokenizer: identity.tokenizer.clone(),
            teacher: Some(identity.teacher.clone()),
            sequence_length: LENGTH as u64,
        };
        let extent = (data.fixed_rows(), data.fixed_segments(), ROWS as u64);
        let header = CacheHeader::new(identity, codec, 1.0, 0, extent)?;
        let mut capture = Capture::open(&directory, header, Shard::default())?;
        limbeck_train::capture(&self.teacher, &data, &mut capture, &|| false, &mut |_| ())?;
        let cache = Cache::open(&directory, &expected)?;
        let targets: u64 = data.report().iter().map(|entry| entry.target_tokens).sum();
        let bytes = cache.bytes()? as f64 / targets as f64;
        Ok((distillation(Teacher::cached(cache)), bytes))
    }
}

/// 1.2 million tokens: the few documents about eight times.
const STUDENT_STEPS: u64 = 600;

fn entry(path: &Path) -> DataEntry {
    DataEntry {
        path: path.display().to_string(),
        kind: DataKind::Documents,
        column: None,
        prompt_column: None,
        completion_column: None,
        weight: 1.0,
    }
}

/// Forward KL alone, at temperature 1.
fn distillation(teacher: Teacher) -> Distillation {
    Distillation { teacher, loss: MixedLoss { divergence: DivergenceLoss::forward_kl(), ce_weight: 0.0 } }
}

/// Forward KL from what the teacher said one position before.
struct Shifted(Transformer);

impl Objective for Shifted {
    fn loss(&self, learner: Learner<'_>, batch: &Batch) -> Result<HeadLoss, TrainError> {
        let (model, device) = (learner.model, learner.model.device());
        let rows: Vec<i32> = (1..batch.loss_mask.len() as i32).filter(|row| batch.loss_mask[*row as usize]).collect();
        let ints = |rows: Vec<i32>| {
            let shape = [rows.len()];
            Tensor::<1, Int>::from_data(TensorData::new(rows, shape), &device)
        };
        let before = ints(rows.iter().map(|row| row - 1).collect());
        let teacher = self.0.hidden(&batch.inputs, &batch.positions, batch.sequence_length).select(0, before);
        let hidden = learner.hidden(batch).select(0, ints(rows));
        Ok(loss_head(hidden, model.output_weight(), model.precision(), |logits, chunk| {
            let teacher = teacher.clone().narrow(0, chunk.start, chunk.len());
            DivergenceLoss::forward_kl().dense(logits, linear(teacher, self.0.output_weight(), Precision::Fp32))
        }))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let squares: f64 = values.iter().map(|value| (value - mean(values)).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

/// A8, A10 and A11 of the experiments: distilling beats cross-entropy where data are few, sampled logits are as good as all,
/// and teachers that are wrong do harm.
#[test]
fn distilling_beats_cross_entropy_where_data_are_few() -> anyhow::Result<()> {
    let bench = Bench::new(1_500)?;
    let mut rates = Vec::new();
    for rate in [2e-3, 4e-3, 8e-3, 16e-3, 32e-3] {
        rates.push((rate, bench.student(&NextToken, rate, 0)?));
        println!("cross-entropy, learning rate {rate}: {:.4} nats", rates[rates.len() - 1].1);
    }
    // Tuned for the arm that is to be beaten.
    let rate = rates.iter().min_by(|one, other| one.1.total_cmp(&other.1)).map_or(2e-3, |(rate, _)| *rate);

    let seeds = |name: &str, objective: &dyn Objective, count: u64| -> anyhow::Result<Vec<f64>> {
        let losses =
            (0..count).map(|seed| bench.student(objective, rate, seed)).collect::<anyhow::Result<Vec<f64>>>()?;
        println!("{name}: {losses:.4?}, {:.4} ± {:.4} nats", mean(&losses), deviation(&losses));
        Ok(losses)
    };
    let cross_entropy = seeds("cross-entropy", &NextToken, SEEDS)?;
    let dense = seeds("all logits", &bench.online(&bench.teacher), SEEDS_OF_ALIKE)?;
    let margins: Vec<f64> = cross_entropy.iter().zip(&dense).map(|(one, other)| one - other).collect();
    println!("margins: {margins:.4?}");

    let mut codecs = Vec::new();
    for (name, codec, count) in [
        ("50 draws", LogitsCodec::RandomSampling { draws: 50, sets: 1 }, SEEDS_OF_ALIKE),
        ("top 12 with ghost", LogitsCodec::TopK { k: 12 }, SEEDS),
        ("top 50 with ghost", LogitsCodec::TopK { k: 50 }, SEEDS),
        ("50 draws, another set in each epoch", LogitsCodec::RandomSampling { draws: 50, sets: 8 }, SEEDS),
    ] {
        let (objective, bytes) = bench.cached(codec)?;
        println!("{name}: {bytes:.2} bytes a target");
        codecs.push((seeds(name, &objective, count)?, bytes));
    }

    let apart: Vec<f64> = codecs[0].0.iter().zip(&dense).map(|(one, other)| one - other).collect();
    let error = deviation(&apart) / (apart.len() as f64).sqrt();
    println!("50 draws against all logits: {:.4} ± {error:.4} nats (standard error)", mean(&apart));

    let shifted = bench.student(&Shifted(bench.teacher.clone()), rate, 0)?;
    let random = Transformer::new(bench.teacher.config(), 99, &Device::flex());
    let random = bench.student(&bench.online(&random), rate, 0)?;
    println!("teacher shifted by one: {shifted:.4} nats; random teacher: {random:.4} nats");

    let many = |objective: &dyn Objective| -> anyhow::Result<f64> {
        bench.held_out(&bench.trained(&bench.shape, objective, "all", rate, 0, STUDENT_STEPS)?)
    };
    let (plain, taught) = (many(&NextToken)?, many(&bench.online(&bench.teacher))?);
    println!("all documents once: cross-entropy {plain:.4} nats, all logits {taught:.4} nats");

    assert!(margins.iter().all(|margin| *margin > 0.0), "better in every seed: {margins:?}");
    assert!(mean(&margins) > 0.03 && mean(&margins) > 2.0 * deviation(&margins), "{margins:?}");
    assert!(mean(&apart).abs() < 0.01, "{apart:?}");
    assert!(codecs[0].1 < codecs[2].1, "{codecs:?}");
    assert!(shifted > cross_entropy[0] && random > cross_entropy[0], "{shifted} {random} {cross_entropy:?}");
    Ok(())
}

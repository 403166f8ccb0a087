//! What is announced is read on another thread, and is what would have been read without.

use anyhow::Context;
use limbeck_config::{Architecture, DataEntry, DataKind, ModelConfig, OptimizerSection};
use limbeck_data::{Batch, Mixture, Tokenizer};
use limbeck_logits::{Cache, Expected};
use limbeck_loss::{DivergenceLoss, MixedLoss};
use limbeck_model::Transformer;
use limbeck_train::{AdamW, Distillation, Objective, Teacher, Trainer};

use super::{TOP_K, capture};
use crate::support::devices::cpu;
use crate::support::models::small;
use crate::support::sandbox::Sandbox;

const ROWS: usize = 5;
const STEPS: u64 = 7;

struct Lessons {
    data: Mixture,
    tokenizer: Tokenizer,
}

impl Lessons {
    /// The training data of the sandbox's `distill`.
    fn of(sandbox: &Sandbox) -> anyhow::Result<Self> {
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
        Ok(Self { data, tokenizer })
    }

    fn batch(&self, step: u64) -> Batch {
        self.data.batch(step * ROWS as u64, ROWS)
    }

    fn objective(&self, sandbox: &Sandbox) -> anyhow::Result<Distillation> {
        let expected = Expected {
            data: self.data.segments_fingerprint(),
            tokenizer: self.tokenizer.hash(),
            teacher: None,
            sequence_length: 48,
        };
        let teacher = Teacher::cached(Cache::open(&sandbox.path("cache"), &expected)?);
        let divergence = DivergenceLoss { temperature: 1.5, ..DivergenceLoss::forward_kl() };
        Ok(Distillation { teacher, loss: MixedLoss { divergence, ce_weight: 0.25 } })
    }

    /// Of each step, `announce` being called before it with its number, from 0.
    fn losses(&self, objective: &Distillation, announce: &dyn Fn(u64)) -> anyhow::Result<Vec<f32>> {
        let config = ModelConfig { vocab_size: self.tokenizer.vocab_size(), ..small(Architecture::Qwen3) };
        let model = Transformer::new(&config, 1, &cpu().autodiff());
        let mut trainer = Trainer::new(model, AdamW::new(&OptimizerSection::new(1e-2))?);
        let mut losses = Vec::new();
        for step in 0..STEPS {
            announce(step);
            let report;
            (trainer, report) = trainer.step(objective, &self.batch(step).micro_batches(2), step + 1, 1.0)?;
            losses.push(report.loss_nats);
        }
        Ok(losses)
    }
}

#[test]
fn losses_do_not_depend_on_what_was_announced() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let lessons = Lessons::of(&sandbox)?;
    for codec in [&[][..], &[TOP_K]] {
        capture(&sandbox, codec)?;
        let objective = lessons.objective(&sandbox)?;
        let announce =
            |step: u64| lessons.batch(step).micro_batches(2).iter().for_each(|batch| objective.announce(batch));
        let expected = lessons.losses(&objective, &|_| ())?;
        assert!(expected.windows(2).all(|pair| pair[0] != pair[1]), "{expected:?}");
        // As a run does it: the next step's.
        assert_eq!(lessons.losses(&objective, &|step| announce(step + 1))?, expected);
        // What comes twice, too late, in another order, or never.
        let announce_badly = |step: u64| match step {
            1 => [4, 2, 2, 3].into_iter().for_each(announce),
            3 => announce(0),
            4 => [77, 5].into_iter().for_each(announce),
            _ => {}
        };
        assert_eq!(lessons.losses(&objective, &announce_badly)?, expected);
        std::fs::remove_dir_all(sandbox.path("cache"))?;
    }
    Ok(())
}

#[test]
fn a_cache_that_cannot_be_read_ahead_fails_the_step_that_needs_it() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let lessons = Lessons::of(&sandbox)?;
    capture(&sandbox, &[])?;
    let objective = lessons.objective(&sandbox)?;
    // A target that the cache has no distribution for.
    let mut other = lessons.batch(0);
    let places = other.segments.iter().flat_map(|span| {
        let first = span.row * other.sequence_length + span.start;
        first..first + span.length
    });
    let masked = places.into_iter().find(|place| !other.loss_mask[*place]);
    let place = masked.context("chats have prompts")?;
    other.loss_mask[place] = true;
    let config = ModelConfig { vocab_size: lessons.tokenizer.vocab_size(), ..small(Architecture::Qwen3) };
    let model = Transformer::new(&config, 1, &cpu().autodiff());
    objective.announce(&other);
    objective.announce(&lessons.batch(1));
    let error = objective.loss((&model).into(), &other).expect_err("not in the cache").to_string();
    assert!(error.contains("document"), "{error}");
    // The one behind it is as good as ever.
    objective.loss((&model).into(), &lessons.batch(1))?;
    Ok(())
}

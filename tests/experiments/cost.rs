//! What a step takes that learns from a teacher, beside one that learns from the text.

use std::time::Instant;

use burn::tensor::Device;
use limbeck_config::{LogitsCodec, OptimizerSection};
use limbeck_data::{Batch, Mixture};
use limbeck_model::Transformer;
use limbeck_train::{AdamW, NextToken, Objective, Trainer};

use super::{Bench, ROWS};

/// A turn of an arm: as many steps as it takes for what one arm leaves in the caches not to count for the next.
const STEPS_PER_TURN: u64 = 10;
const TURNS: u64 = 20;
/// What a step from captured logits may cost at most, in steps of cross-entropy.
const MOST: f64 = 1.10;

/// A student that learns in its own way.
struct Arm<'a> {
    name: &'static str,
    objective: &'a dyn Objective,
    trainer: Option<Trainer>,
    /// Of every step but those of the first turn.
    seconds: Vec<f64>,
}

impl<'a> Arm<'a> {
    fn new(bench: &Bench, name: &'static str, objective: &'a dyn Objective) -> anyhow::Result<Self> {
        let model = Transformer::new(&bench.shape, 0, &Device::flex().autodiff());
        let trainer = Trainer::new(model, AdamW::new(&OptimizerSection::new(1e-3))?);
        Ok(Self { name, objective, trainer: Some(trainer), seconds: Vec::new() })
    }

    /// Steps as a run makes them, the next one's rows announced before each.
    fn take_turn(&mut self, turn: u64, data: &Mixture) -> anyhow::Result<()> {
        let (first, end) = (turn * STEPS_PER_TURN, (turn + 1) * STEPS_PER_TURN);
        let rows = |step: u64| -> Batch { data.batch(step * ROWS as u64, ROWS) };
        let mut next = rows(first);
        for step in first..end {
            let started = Instant::now();
            let batch = std::mem::replace(&mut next, rows(step + 1));
            // Not over the end of the turn: another arm would pay for it.
            if step + 1 < end {
                self.objective.announce(&next);
            }
            let trainer = self.trainer.take().expect("given back after each step");
            self.trainer = Some(trainer.step(self.objective, &[batch], step + 1, 1.0)?.0);
            if turn > 0 {
                self.seconds.push(started.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    fn median(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

/// A15 of the experiments: at most a tenth more than cross-entropy. Arms take turns, so that whatever else the machine does
/// meets all of them.
#[test]
fn a_step_from_captured_logits_costs_a_tenth_more_than_cross_entropy_at_most() -> anyhow::Result<()> {
    // On a worker of the pool, as every command.
    rayon::scope(|_| measure())
}

fn measure() -> anyhow::Result<()> {
    let bench = Bench::new(150)?;
    let (draws, bytes_of_draws) = bench.cached(LogitsCodec::RandomSampling { draws: 50, sets: 1 })?;
    let (top, bytes_of_top) = bench.cached(LogitsCodec::TopK { k: 50 })?;
    let online = bench.online(&bench.teacher);
    println!("bytes a target: 50 draws {bytes_of_draws:.2}, top 50 {bytes_of_top:.2}");
    let mut arms = [
        Arm::new(&bench, "cross-entropy", &NextToken)?,
        Arm::new(&bench, "50 draws", &draws)?,
        Arm::new(&bench, "top 50 with ghost", &top)?,
        Arm::new(&bench, "the teacher beside it", &online)?,
    ];
    let data = bench.data("few", 0)?;
    for turn in 0..TURNS {
        for arm in &mut arms {
            arm.take_turn(turn, &data)?;
        }
    }
    let base = arms[0].median();
    for arm in &arms {
        let (median, steps) = (arm.median(), arm.seconds.len());
        println!("{}: {:.3} ms, {:.3} x cross-entropy ({steps} steps)", arm.name, 1e3 * median, median / base);
    }
    for arm in &arms[1..3] {
        let ratio = arm.median() / base;
        let verdict = if ratio <= MOST { "pass" } else { "FAIL" };
        println!("{}: {verdict}, {ratio:.3} of at most {MOST}", arm.name);
    }
    assert!(arms[1..3].iter().all(|arm| arm.median() <= MOST * base), "a step costs too much");
    Ok(())
}

//! `plan`: the device card turned round. Which student shapes a budget allows, what training each would cost, and which to take.
//!
//! ```text
//! grid ── fit::Footprint, Budget::judge ──▶ shapes that fit on every device asked for
//!   ── law, tokens ──▶ best loss L* that one of them, with room, reaches with all tokens
//!   ── law, L* + tolerance ──▶ tokens that each needs for that ──▶ operations of training (its own and its teacher's)
//!   ── served tokens ──▶ operations of its life ──▶ the least is chosen
//! ```
//!
//! The choice is that of Sardana et al. 2024 (arXiv:2401.00448, equation 2): of all pairs of size and tokens that reach a loss,
//! the one whose training and inference take the fewest operations together; here within a budget of memory and time and with
//! no more tokens than there are, and with the teacher's forward passes counted. Without tokens to serve it is the cheapest
//! training; the more are served, the smaller the model and the longer its training. [`law`] says what the loss is predicted
//! from, and what is not modelled.

mod args;
mod grid;
pub mod law;
mod text;

use std::path::Path;

use anyhow::{Context, anyhow};
use limbeck_checkpoint::{Resolved, is_gguf, resolve};
use limbeck_config::ModelConfig;
use limbeck_export::read_gguf_config;
use limbeck_model::read_config;
use limbeck_train::say;
use serde::Serialize;

use crate::bench;
use crate::failure::{Completion, Failure};
use crate::fit::{CacheType, Device, Footprint, Verdict, devices};
use crate::output;
use law::CHINCHILLA;

pub use args::PlanArgs;

/// Where the budget names no context.
const CONTEXT: usize = 2048;

/// What `plan` found. Its fields are the keys of the object that `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Shapes that were looked at.
    pub shapes: usize,
    /// Of these, those that fit.
    pub fitting: usize,
    /// The lowest loss that one of them reaches with all tokens, in nats a token: one with room, if there is any.
    pub best_loss_nats: f64,
    /// What a choice must reach.
    pub target_loss_nats: f64,
    /// Operations of the teacher for a token.
    pub teacher_flops_per_token: f64,
    /// Operations a second of the training.
    pub flops_per_s: f64,
    /// Those that reach the target, the choice first.
    pub candidates: Vec<Candidate>,
}

/// A shape that fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Width of the stream.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads.
    pub num_key_value_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Numbers to learn.
    pub parameters: usize,
    /// Whether with room or just.
    pub verdict: Verdict,
    /// Of the file.
    pub file_bytes: u64,
    /// With a cache of 16 bits.
    pub resident_bytes: u64,
    /// Of a token, on the slowest of the devices.
    pub expected_s: f64,
    /// With all tokens.
    pub loss_nats: f64,
    /// For the target; a parameter law's, so at most what a student of a teacher needs.
    pub tokens: f64,
    /// Of training on these, the teacher's forward passes among them.
    pub training_flops: f64,
    /// At the speed of the training.
    pub training_hours: f64,
    /// Of training and of the served tokens.
    pub lifetime_flops: f64,
}

/// Prints the shapes that fit and reach the target, the choice first, and its `[model]`.
///
/// # Errors
/// Status 2 if the teacher cannot be read, no vocabulary is given, or nothing fits.
pub fn run(args: &PlanArgs) -> Result<Completion, Failure> {
    let teacher = args.teacher.as_deref().map(teacher).transpose()?;
    let vocab_size = args.vocab_size.or(teacher.as_ref().map(|teacher| teacher.vocab_size));
    let Some(vocab_size) = vocab_size.filter(|size| *size > 0) else {
        let problem = "--vocab-size is missing, and so is a teacher that has one; hint: `--vocab-size 16384`";
        return Err(Failure::usage(anyhow!(problem)));
    };
    let flops_per_s = match args.gflops {
        Some(gflops) => 1e9 * gflops,
        None => bench::measured_flops(args.device)?,
    };
    let plan = plan(args, vocab_size, teacher.as_ref(), flops_per_s)?;
    if args.json {
        output::line(serde_json::to_string(&plan).map_err(Failure::run)?)?;
    } else {
        output::line(text::report(args, &plan, vocab_size))?;
    }
    Ok(Completion::Complete { path: None })
}

/// What fits, what it costs, and in which order it is recommended.
///
/// # Errors
/// Status 2 if nothing fits.
pub fn plan(
    args: &PlanArgs,
    vocab_size: usize,
    teacher: Option<&ModelConfig>,
    flops_per_s: f64,
) -> Result<Plan, Failure> {
    let context = args.budget.context.unwrap_or(CONTEXT);
    let shapes = grid::shapes(vocab_size, context);
    let judged: Vec<Judged> = shapes.iter().map(|shape| Judged::new(shape, args, context)).collect();
    let fitting: Vec<&Judged> = judged.iter().filter(|judged| judged.verdict != Verdict::DoesNotFit).collect();
    if fitting.is_empty() {
        return Err(nothing_fits(&judged));
    }
    let loss = |judged: &Judged| CHINCHILLA.loss_nats(judged.shape.parameter_count() as f64, args.tokens);
    // Of those with room; where there is none, of the tight ones.
    let verdict = fitting.iter().map(|judged| judged.verdict).min();
    let best = fitting.iter().filter(|judged| Some(judged.verdict) == verdict);
    let best_loss_nats = best.map(|judged| loss(judged)).fold(f64::INFINITY, f64::min);
    let cost = Cost {
        target_loss_nats: best_loss_nats + args.within,
        teacher_flops_per_token: teacher.map_or(0.0, |teacher| flops_per_token(teacher, args)),
        flops_per_s,
        args,
    };
    let mut candidates: Vec<Candidate> = fitting.iter().filter_map(|judged| cost.candidate(judged)).collect();
    // With room first, then what takes least.
    candidates.sort_by(|a, b| a.verdict.cmp(&b.verdict).then(a.lifetime_flops.total_cmp(&b.lifetime_flops)));
    Ok(Plan {
        shapes: shapes.len(),
        fitting: fitting.len(),
        best_loss_nats,
        target_loss_nats: cost.target_loss_nats,
        teacher_flops_per_token: cost.teacher_flops_per_token,
        flops_per_s,
        candidates,
    })
}

/// A shape with the worst verdict of the devices.
struct Judged<'a> {
    shape: &'a ModelConfig,
    footprint: Footprint,
    verdict: Verdict,
    reason: Option<&'static str>,
    expected_s: f64,
}

impl<'a> Judged<'a> {
    fn new(shape: &'a ModelConfig, args: &PlanArgs, context: usize) -> Self {
        let footprint = Footprint::new(shape, args.format, context);
        let asked: &[Device] = args.budget.device.as_ref().map_or(devices(), std::slice::from_ref);
        let judgements = asked.iter().map(|device| args.budget.judge(shape, &footprint, device));
        let worst = judgements.max_by_key(|judgement| judgement.verdict);
        let (verdict, reason) = worst.map_or((Verdict::Fits, None), |worst| (worst.verdict, worst.reason));
        let expected_s = asked.iter().map(|device| footprint.traffic.speed(device).expected_s).fold(0.0, f64::max);
        Self { shape, footprint, verdict, reason, expected_s }
    }
}

fn nothing_fits(judged: &[Judged]) -> Failure {
    let smallest = judged.iter().min_by_key(|judged| judged.footprint.memory.resident_bytes(CacheType::Q8_0));
    let problem = smallest.map_or(String::new(), |smallest| {
        let bytes = smallest.footprint.memory.resident_bytes(CacheType::Q8_0);
        format!(
            "; the smallest takes {:.0} MB and {:.1} ms a token, and fails for `{}`",
            bytes as f64 / 1e6,
            1e3 * smallest.expected_s,
            smallest.reason.unwrap_or("context")
        )
    });
    Failure::usage(anyhow!(
        "--budget: none of {} shapes fits{problem}; hint: raise that limit, or shorten the context or the vocabulary",
        judged.len()
    ))
}

/// What makes a candidate of a shape.
struct Cost<'a> {
    target_loss_nats: f64,
    teacher_flops_per_token: f64,
    flops_per_s: f64,
    args: &'a PlanArgs,
}

impl Cost<'_> {
    /// `None` where all tokens are not enough for the target.
    fn candidate(&self, judged: &Judged) -> Option<Candidate> {
        let (shape, parameters) = (judged.shape, judged.shape.parameter_count());
        let tokens = CHINCHILLA.tokens(parameters as f64, self.target_loss_nats)?;
        if tokens > self.args.tokens {
            return None;
        }
        let training_flops = tokens * (3.0 * flops_per_token(shape, self.args) + self.teacher_flops_per_token);
        let served = self.args.served_tokens * judged.footprint.traffic.flops as f64;
        Some(Candidate {
            hidden_size: shape.hidden_size,
            num_hidden_layers: shape.num_hidden_layers,
            num_attention_heads: shape.num_attention_heads,
            num_key_value_heads: shape.num_key_value_heads,
            intermediate_size: shape.intermediate_size,
            parameters,
            verdict: judged.verdict,
            file_bytes: judged.footprint.stored.file_bytes(),
            resident_bytes: judged.footprint.memory.resident_bytes(CacheType::F16),
            expected_s: judged.expected_s,
            loss_nats: CHINCHILLA.loss_nats(parameters as f64, self.args.tokens),
            tokens,
            training_flops,
            training_hours: training_flops / self.flops_per_s / 3600.0,
            lifetime_flops: training_flops + served,
        })
    }
}

/// Of a forward pass, in full rows.
fn flops_per_token(model: &ModelConfig, args: &PlanArgs) -> f64 {
    let length = u64::from(args.sequence_length);
    model.forward_flops(length, length * (length + 1) / 2) as f64 / length as f64
}

/// Its shape; the weights are not read.
fn teacher(path: &Path) -> Result<ModelConfig, Failure> {
    let read = || -> anyhow::Result<ModelConfig> {
        let Resolved { path, skipped, .. } = resolve(path)?;
        skipped.iter().for_each(|skipped| say!("warning: {skipped}"));
        Ok(if is_gguf(&path) { read_gguf_config(&path)? } else { read_config(&path)? })
    };
    read().with_context(|| format!("--teacher is `{}`", path.display())).map_err(Failure::usage)
}

#[cfg(test)]
mod tests;

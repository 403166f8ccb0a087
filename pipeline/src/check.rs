//! `--check`: what a run would be, without running it.

use std::time::Instant;

use limbeck_config::{ModelConfig, Precision, Recompute, TrainingConfig};
use limbeck_data::Mixture;
use limbeck_model::Transformer;
use limbeck_train::say;

use crate::failure::Failure;
use crate::training::{Goal, new_trainer};
use crate::{output, tokenised};

/// Prints the resolved config and what the run takes: its shape is counted, its time measured on two thrown-away steps.
///
/// # Errors
/// If a step fails: no target tokens, or a loss that is not finite.
pub fn print(
    config: &TrainingConfig,
    toml: &str,
    model: Transformer,
    goal: Goal,
    train: &Mixture,
) -> Result<(), Failure> {
    let shape = model.config().clone();
    let rows = config.rows_per_step();
    let Goal { objective, on_policy, alignment, .. } = goal;
    let mut trainer = new_trainer(config, model, alignment)?;
    let mut seconds = f64::INFINITY;
    for step in 0..2 {
        let micro_batches = train.batch(step * rows as u64, rows).micro_batches(config.micro_batch_size());
        let started = Instant::now();
        // A learning rate of zero: the weights are thrown away, but a step should not go astray.
        trainer = trainer.step(objective.as_ref(), &micro_batches, step + 1, 0.0).map_err(Failure::usage)?.0;
        seconds = seconds.min(started.elapsed().as_secs_f64());
    }
    let started = Instant::now();
    trainer.model.on_grid().map_err(Failure::usage)?;
    let rounding = started.elapsed().as_secs_f64();
    let mut total = seconds * config.max_steps() as f64;
    let mut sampling = None;
    if let Some(on_policy) = on_policy {
        let (size, steps) = (config.micro_batch_size(), 1..=config.max_steps());
        let own: Vec<u64> = steps.filter(|step| on_policy.section.is_due(*step)).collect();
        let first = own.first().copied().unwrap_or_default();
        let started = Instant::now();
        let lesson = on_policy.lesson(&trainer.model, train, &train.batch(0, rows), size, first);
        if let Some(lesson) = lesson.map_err(Failure::usage)? {
            trainer.step(lesson.objective, &lesson.batch.micro_batches(size), 1, 0.0).map_err(Failure::usage)?;
            let own_seconds = started.elapsed().as_secs_f64();
            total += (own_seconds - seconds) * own.len() as f64;
            sampling = Some(format!("{} steps ({own_seconds:.3} s a step, measured)", own.len()));
        }
    }
    output::line(toml)?;
    let row = |name: &str, value: String| say!("{name:<22}{value}");
    row("parameters", shape.parameter_count().to_string());
    row("steps", config.max_steps().to_string());
    row("tokens a step", config.train.tokens_per_step.to_string());
    row("tokens in all", (config.max_steps() * config.train.tokens_per_step as u64).to_string());
    row("memory, predicted", format!("{:.0} MB", memory_bytes(&shape, config) / 1e6));
    row("time, predicted", format!("{total:.0} s ({seconds:.3} s a step, measured)"));
    if config.train.fake_quant.is_some() {
        let share = 100.0 * rounding / seconds;
        row("of it, fake quant", format!("{rounding:.3} s a step, measured ({share:.1} %)"));
    }
    if let Some(sampling) = sampling {
        row("on own samples", sampling);
    }
    for entry in train.report() {
        row("training data", tokenised::describe(&entry));
    }
    Ok(())
}

/// Weights, gradients and two moments in 32 bits, the weights on a grid besides where there is one; what the backward pass
/// keeps of each block; two blocks in full, for the one that it is in and its gradients; the loss head's chunk.
fn memory_bytes(shape: &ModelConfig, config: &TrainingConfig) -> f64 {
    let copies = if config.train.fake_quant.is_some() { 5 } else { 4 };
    let state = copies * shape.parameter_count();
    let tokens = config.micro_batch_size() * config.data.sequence_length;
    let hidden = shape.hidden_size;
    let attended = shape.num_attention_heads * shape.head_dim;
    let heads = attended + 2 * shape.num_key_value_heads * shape.head_dim;
    // Of a token: the stream twice, the normed stream twice, the heads before and behind attention, the feed-forward layer's insides.
    let block = 4 * hidden + heads + attended + 3 * shape.intermediate_size;
    let kept = match (config.train.recompute, config.train.precision) {
        (Recompute::Block, _) => hidden,
        (Recompute::None, Some(Precision::Bf16)) => {
            2 * hidden + (heads + 2 * attended + 2 * shape.intermediate_size) / 2
        }
        (Recompute::None, _) => 2 * hidden + heads + attended + 2 * shape.intermediate_size,
    };
    let activations = tokens * (shape.num_hidden_layers * kept + 2 * block);
    let head = (1usize << 22).min(tokens * shape.vocab_size);
    4.0 * (state + activations + head) as f64
}

//! What `plan` prints.

use std::fmt::Write as _;

use super::{Candidate, Plan, PlanArgs};
use crate::card::{bytes, digits};

/// A table and the chosen `[model]`.
pub(super) fn report(args: &PlanArgs, plan: &Plan, vocab_size: usize) -> String {
    let mut text = format!(
        "{} of {} shapes fit in {}. With {:.2e} tokens the best that fits with room reaches {:.3} nats a token; these reach \
         {:.3}, first the one that takes least for that, {:.1e} served tokens included:\n\n",
        plan.fitting,
        plan.shapes,
        args.format.name(),
        args.tokens,
        plan.best_loss_nats,
        plan.target_loss_nats,
        args.served_tokens,
    );
    text += "| hidden | layers | heads | feed-forward | parameters | file | resident | ms a token | nats/token | tokens needed | \
             training, FLOP | hours | lifetime, FLOP | |\n";
    text += &("|---".repeat(14) + "|\n");
    for candidate in plan.candidates.iter().take(args.rows as usize) {
        row(&mut text, candidate);
    }
    let _ = writeln!(
        text,
        "\nTraining at {:.0} GFLOP/s, of it {:.2e} FLOP a token the teacher's. Losses are those of Hoffmann et al. \
         (arXiv:2203.15556) for English web text: they rank shapes, and leave out what a teacher gives; with one, expect to \
         need fewer tokens (arXiv:2502.08606). Times are those of the slowest device.",
        plan.flops_per_s / 1e9,
        plan.teacher_flops_per_token,
    );
    if let Some(choice) = plan.candidates.first() {
        let context = args.budget.context.unwrap_or(super::CONTEXT);
        let _ = write!(text, "\n{}", model_section(choice, vocab_size, context));
    }
    text
}

fn row(text: &mut String, candidate: &Candidate) {
    let Candidate { hidden_size, num_hidden_layers, intermediate_size, parameters, .. } = candidate;
    let (heads, groups) = (candidate.num_attention_heads, candidate.num_key_value_heads);
    let (file, resident) = (bytes(candidate.file_bytes), bytes(candidate.resident_bytes));
    let _ = writeln!(
        text,
        "| {hidden_size} | {num_hidden_layers} | {heads}/{groups} | {intermediate_size} | {parameters} | {file} | {resident} | {} | \
         {:.3} | {:.2e} | {:.2e} | {} | {:.2e} | {} |",
        digits(1e3 * candidate.expected_s),
        candidate.loss_nats,
        candidate.tokens,
        candidate.training_flops,
        digits(candidate.training_hours),
        candidate.lifetime_flops,
        candidate.verdict,
    );
}

/// As a config has it.
pub(super) fn model_section(choice: &Candidate, vocab_size: usize, context: usize) -> String {
    format!(
        "[model]\nvocab_size = {vocab_size}\nhidden_size = {}\nintermediate_size = {}\nnum_hidden_layers = {}\n\
         num_attention_heads = {}\nnum_key_value_heads = {}\nhead_dim = {}\nmax_position_embeddings = {context}\n",
        choice.hidden_size,
        choice.intermediate_size,
        choice.num_hidden_layers,
        choice.num_attention_heads,
        choice.num_key_value_heads,
        choice.hidden_size / choice.num_attention_heads,
    )
}

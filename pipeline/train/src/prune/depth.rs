//! Which blocks a model can do without.

use limbeck_data::Batch;
use limbeck_model::{Forward, Transformer};

use crate::evaluation::head_loss_sum;
use crate::prune::report::{BlockImportance, RemovedBlock};
use crate::prune::{PruneEvent, targets};

/// A block that is still there.
struct Candidate {
    block: usize,
    /// By how much the loss rose without it when that was last measured.
    harm_nats: f64,
    /// Blocks that were there then.
    among: usize,
}

/// Removes blocks one at a time until `keep` are left: each time the one without which the loss on the calibration data is
/// lowest, for what a block is worth depends on its neighbours. Gives what stays, what each block alone is worth, and what
/// went in which order. `loss_nats` is the loss with all of them.
///
/// Measuring every block anew in every round would take `n²/7` passes over the calibration data to remove half of `n` blocks.
/// As a rule a block is worth more the fewer there are, so that its last value is a lower bound, and only those that could be
/// the lowest are measured again. One pass that compares what each block reads with what it gives (block influence: Men et al.
/// 2024, arXiv:2403.03853) is cheaper still, but does not ask what a change does to the loss, nor what is left without the
/// block's neighbour.
///
/// # Source
/// SLEB, Song et al. 2024, arXiv:2402.09025, algorithm 1; its lazy evaluation is Minoux's (1978, "Accelerated greedy
/// algorithms for maximizing submodular set functions").
pub(super) fn remove_blocks(
    model: &Transformer,
    loss_nats: f64,
    keep: usize,
    batches: &[Batch],
    on_event: &mut dyn FnMut(PruneEvent),
) -> (Vec<usize>, BlockImportance) {
    let all: Vec<usize> = (0..model.config().num_hidden_layers).collect();
    let mut importance = BlockImportance::default();
    if all.len() <= keep {
        return (all, importance);
    }
    importance.loss_without_nats = losses_without_each(model, batches);
    let candidate =
        |(block, loss): (&usize, &f64)| Candidate { block: *block, harm_nats: loss - loss_nats, among: all.len() };
    let mut candidates: Vec<Candidate> = all.iter().zip(&importance.loss_without_nats).map(candidate).collect();
    let mut before = loss_nats;
    while candidates.len() > keep {
        let among = candidates.len();
        // The first of equals.
        let least = (0..among).min_by(|one, other| candidates[*one].harm_nats.total_cmp(&candidates[*other].harm_nats));
        let Some(place) = least else { break };
        if candidates[place].among == among {
            let Candidate { block, harm_nats, .. } = candidates.remove(place);
            before += harm_nats;
            let removed = RemovedBlock { block, loss_nats: before };
            on_event(PruneEvent::Block { removed, left: candidates.len() - keep });
            importance.removed.push(removed);
        } else {
            let others = candidates.iter().enumerate().filter(|(other, _)| *other != place);
            let others: Vec<usize> = others.map(|(_, candidate)| candidate.block).collect();
            candidates[place].harm_nats = loss_of(model, &others, batches) - before;
            candidates[place].among = among;
        }
    }
    (candidates.into_iter().map(|candidate| candidate.block).collect(), importance)
}

/// The mean loss of the model that has these blocks alone.
fn loss_of(model: &Transformer, blocks: &[usize], batches: &[Batch]) -> f64 {
    let sum = |batch: &Batch| {
        let (pass, hidden) = Forward::begin(model, &batch.inputs, &batch.positions, batch.sequence_length);
        let hidden = blocks.iter().fold(hidden, |hidden, block| pass.block(*block, hidden));
        head_loss_sum(model, pass.end(hidden), batch)
    };
    batches.iter().map(sum).sum::<f64>() / targets(batches)
}

/// For each block, the mean loss of the model that has all others.
fn losses_without_each(model: &Transformer, batches: &[Batch]) -> Vec<f64> {
    let blocks = model.config().num_hidden_layers;
    let mut sums = vec![0.0; blocks];
    for batch in batches {
        let (pass, mut hidden) = Forward::begin(model, &batch.inputs, &batch.positions, batch.sequence_length);
        for (block, sum) in sums.iter_mut().enumerate() {
            // What is before the block is computed once for all candidates behind it.
            let rest = (block + 1..blocks).fold(hidden.clone(), |hidden, block| pass.block(block, hidden));
            *sum += head_loss_sum(model, pass.end(rest), batch);
            hidden = pass.block(block, hidden);
        }
    }
    sums.into_iter().map(|sum| sum / targets(batches)).collect()
}

//! Which blocks a model can do without.

use limbeck_data::Batch;
use limbeck_model::{Forward, Transformer};

use crate::evaluation::head_loss_sum;
use crate::prune::report::{BlockImportance, RemovedBlock};
use crate::prune::{PruneEvent, targets};

/// Removes blocks one at a time until `keep` are left: each time the one without which the loss on the calibration data is
/// lowest, measured anew, for what a block is worth depends on its neighbours. Gives what stays, what each block alone is
/// worth, and what went in which order.
///
/// A round costs a forward pass, and for each block the rest of one and a loss head: to take half of `n` blocks away costs
/// about `n²/7` passes and `3n²/8` loss heads over the calibration data. One pass that compares what each block reads with
/// what it gives (block influence: Men et al. 2024, arXiv:2403.03853) is that much cheaper, but does not ask what a change
/// does to the loss, nor what is left without the block's neighbour.
///
/// # Source
/// SLEB, Song et al. 2024, arXiv:2402.09025, algorithm 1.
pub(super) fn remove_blocks(
    model: &Transformer,
    keep: usize,
    batches: &[Batch],
    on_event: &mut dyn FnMut(PruneEvent),
) -> (Vec<usize>, BlockImportance) {
    let mut kept: Vec<usize> = (0..model.config().num_hidden_layers).collect();
    let mut importance = BlockImportance::default();
    while kept.len() > keep {
        let losses = losses_without(model, &kept, batches);
        if importance.loss_without_nats.is_empty() {
            importance.loss_without_nats = losses.clone();
        }
        // The first of equals.
        let worst = losses.iter().enumerate().min_by(|one, other| one.1.total_cmp(other.1));
        let Some((place, loss)) = worst else { break };
        let removed = RemovedBlock { block: kept.remove(place), loss_nats: *loss };
        on_event(PruneEvent::Block { removed, left: kept.len() - keep });
        importance.removed.push(removed);
    }
    (kept, importance)
}

/// For each of the blocks `kept`, the mean loss of the model that has the others.
fn losses_without(model: &Transformer, kept: &[usize], batches: &[Batch]) -> Vec<f64> {
    let mut sums = vec![0.0; kept.len()];
    for batch in batches {
        let (pass, mut hidden) = Forward::begin(model, &batch.inputs, &batch.positions, batch.sequence_length);
        for (place, block) in kept.iter().enumerate() {
            // What is before the block is computed once for all candidates behind it.
            let rest = kept[place + 1..].iter().fold(hidden.clone(), |hidden, block| pass.block(*block, hidden));
            sums[place] += head_loss_sum(model, pass.end(rest), batch);
            hidden = pass.block(*block, hidden);
        }
    }
    sums.into_iter().map(|sum| sum / targets(batches)).collect()
}

//! A forward pass that keeps the stream between the blocks and nothing inside of them, and its backward pass, which computes
//! each block again.

use std::cell::RefCell;

use burn::tensor::{Gradients, Tensor};
use limbeck_data::Batch;
use limbeck_model::{Forward, Transformer};

/// What is kept of the forward pass of a micro-batch. The graph of the loss begins behind the last block; that of a block
/// exists while its gradients are made. The operations are those of a pass that keeps everything, and so are their results.
///
/// # Source
/// Chen et al. 2016 (arXiv:1604.06174), with a segment a block.
pub(crate) struct Tape<'a> {
    /// With autodiff.
    model: &'a Transformer,
    /// The same without.
    constant: Transformer,
    recorded: RefCell<Option<Recorded<'a>>>,
}

struct Recorded<'a> {
    forward: Forward<'a>,
    /// What the embedding gave, on its graph.
    embedded: Tensor<3>,
    /// What each block read, then what the last norm did: leaves.
    streams: Vec<Tensor<3>>,
}

impl<'a> Tape<'a> {
    pub(crate) fn new(model: &'a Transformer) -> Self {
        Self { model, constant: model.clone().without_autodiff(), recorded: RefCell::new(None) }
    }

    /// The last hidden states, normed, as [`Transformer::hidden`]; `each` sees what every block gives.
    pub(crate) fn hidden(&self, batch: &Batch, mut each: impl FnMut(usize, &Tensor<3>)) -> Tensor<2> {
        let (forward, embedded) = Forward::begin(self.model, &batch.inputs, &batch.positions, batch.sequence_length);
        let constant = forward.over(&self.constant);
        let mut streams = vec![leaf(embedded.clone().inner())];
        for block in 0..self.model.config().num_hidden_layers {
            let stream = leaf(constant.block(block, streams[block].clone().inner()));
            each(block, &stream);
            streams.push(stream);
        }
        let hidden = forward.end(streams[streams.len() - 1].clone());
        *self.recorded.borrow_mut() = Some(Recorded { forward, embedded, streams });
        hidden
    }

    /// Goes on with the backward pass of a loss of [`Tape::hidden`] and gives `found` the gradients of each block, and last
    /// of the embedding. Nothing where no such loss was asked for.
    pub(crate) fn backward(&self, of_loss: &Gradients, mut found: impl FnMut(Gradients)) {
        let Some(Recorded { forward, embedded, mut streams }) = self.recorded.take() else { return };
        let mut above = None;
        while let Some(output) = streams.pop() {
            above = sum(above, output.grad(of_loss));
            let Some(gradient) = above.take() else { continue };
            let Some(input) = streams.last() else {
                found(pulled_back(embedded, gradient));
                return;
            };
            // The output is of no use any more, and a block's graph is large.
            drop(output);
            let gradients = pulled_back(forward.block(streams.len() - 1, input.clone()), gradient);
            above = input.grad(&gradients);
            found(gradients);
        }
    }
}

/// Gradients by what `output` was made of, of a loss whose gradient by `output` is given.
fn pulled_back(output: Tensor<3>, gradient: Tensor<3>) -> Gradients {
    (output * gradient.autodiff()).sum().backward()
}

fn leaf(stream: Tensor<3>) -> Tensor<3> {
    stream.autodiff().require_grad()
}

fn sum(one: Option<Tensor<3>>, other: Option<Tensor<3>>) -> Option<Tensor<3>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

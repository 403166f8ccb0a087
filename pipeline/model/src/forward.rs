//! A forward pass block by block, for what looks between the blocks or leaves some out.

use burn::tensor::Tensor;
use limbeck_kernels::{AttentionPlan, embedding};

use crate::block::Pass;
use crate::layers::RmsNorm;
use crate::transformer::Transformer;

/// A pass over one batch. [`Transformer::hidden`] is all blocks in their order.
#[derive(Debug)]
pub struct Forward<'a> {
    model: &'a Transformer,
    pass: Pass,
}

/// What a norm reads and what it gives: `[rows, tokens, hidden_size]`.
#[derive(Debug)]
pub struct TracedNorm {
    /// The stream between the blocks.
    pub before: Tensor<3>,
    /// What the matrices behind the norm read.
    pub after: Tensor<3>,
}

/// What the matrices of a block read.
#[derive(Debug)]
pub struct TracedBlock {
    /// The norm before queries, keys and values.
    pub attention: TracedNorm,
    /// What `o_proj` reads: `[rows, tokens, num_attention_heads * head_dim]`.
    pub heads: Tensor<3>,
    /// The norm before the feed-forward layer.
    pub feed_forward: TracedNorm,
    /// What `down_proj` reads: `[rows, tokens, intermediate_size]`.
    pub neurons: Tensor<3>,
}

impl TracedNorm {
    pub(crate) fn of(norm: &RmsNorm, before: Tensor<3>) -> Self {
        Self { after: norm.forward(before.clone()), before }
    }
}

impl<'a> Forward<'a> {
    /// The pass and what the first block reads.
    ///
    /// # Shapes
    /// As [`Transformer::hidden`]; the stream is `[rows, sequence_length, hidden_size]`.
    pub fn begin(
        model: &'a Transformer,
        inputs: &[u32],
        positions: &[u32],
        sequence_length: usize,
    ) -> (Self, Tensor<3>) {
        let config = model.config();
        let plan = AttentionPlan::new(positions, sequence_length, config.head_dim, config.rope_theta, &model.device());
        let hidden = embedding(model.model.embed_tokens.weight.val(), inputs, sequence_length);
        let int8_inputs = model.rounded_inputs().blocks;
        (Self { model, pass: Pass { plan, precision: model.precision(), int8_inputs } }, hidden)
    }

    /// The same pass over another model of this shape.
    pub fn over<'b>(&self, model: &'b Transformer) -> Forward<'b> {
        Forward { model, pass: self.pass.clone() }
    }

    /// The stream behind block `index`.
    pub fn block(&self, index: usize, hidden: Tensor<3>) -> Tensor<3> {
        self.model.model.layers[index].forward(hidden, &self.pass)
    }

    /// [`Forward::block`], with what its matrices read.
    pub fn trace(&self, index: usize, hidden: Tensor<3>) -> (Tensor<3>, TracedBlock) {
        self.model.model.layers[index].trace(hidden, &self.pass)
    }

    /// The last norm, and what it reads.
    pub fn trace_end(&self, hidden: Tensor<3>) -> TracedNorm {
        TracedNorm::of(&self.model.model.norm, hidden)
    }

    /// The last hidden states, normed: `[rows * sequence_length, hidden_size]`.
    pub fn end(&self, hidden: Tensor<3>) -> Tensor<2> {
        self.model.head_input(self.model.model.norm.forward(hidden)).flatten(0, 1)
    }
}

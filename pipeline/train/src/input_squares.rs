//! How large what the matrices of a model read is, on calibration data.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use limbeck_data::Batch;
use limbeck_model::{Forward, HostTensor, TracedNorm, Transformer};

use crate::objective::TargetRows;
use crate::prune::targets;

/// Sums of squares over the targets of the calibration data, of what matrices and norms read.
pub(crate) struct InputSquares {
    /// Of what `o_proj` reads, a list a block.
    pub(crate) heads: Vec<Vec<f64>>,
    /// Of what `down_proj` reads.
    pub(crate) neurons: Vec<Vec<f64>>,
    /// Of what each norm reads, one a channel: attention's and the feed-forward layer's of each block in turn, and the last one.
    pub(crate) norm_inputs: Vec<Vec<f64>>,
    /// Of what they give, in the same order.
    pub(crate) norm_outputs: Vec<Vec<f64>>,
}

/// The mean square of what meets each column of each matrix, over the targets of `batches`, by Hugging Face's names: what
/// `llama-imatrix` collects. An embedding that is not the output weights too reads nothing, and has none.
pub fn input_mean_squares(model: &Transformer, batches: &[Batch]) -> BTreeMap<String, Vec<f32>> {
    let config = model.config();
    let (sums, count) = (InputSquares::over(model, batches), targets(batches));
    let mean = |sums: &[f64]| sums.iter().map(|sum| (sum / count) as f32).collect::<Vec<_>>();
    let mut means = BTreeMap::new();
    for block in 0..config.num_hidden_layers {
        let mut insert = |matrices: &[&str], sums: &[f64]| {
            for matrix in matrices {
                means.insert(format!("model.layers.{block}.{matrix}.weight"), mean(sums));
            }
        };
        insert(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], &sums.norm_outputs[2 * block]);
        insert(&["self_attn.o_proj"], &sums.heads[block]);
        insert(&["mlp.gate_proj", "mlp.up_proj"], &sums.norm_outputs[2 * block + 1]);
        insert(&["mlp.down_proj"], &sums.neurons[block]);
    }
    let output = if config.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" };
    means.insert(output.to_owned(), mean(&sums.norm_outputs[2 * config.num_hidden_layers]));
    means
}

impl InputSquares {
    /// Measures `model` in one pass over `batches`.
    pub(crate) fn over(model: &Transformer, batches: &[Batch]) -> Self {
        let blocks = model.config().num_hidden_layers;
        let mut sums = Self {
            heads: vec![Vec::new(); blocks],
            neurons: vec![Vec::new(); blocks],
            norm_inputs: vec![Vec::new(); 2 * blocks + 1],
            norm_outputs: vec![Vec::new(); 2 * blocks + 1],
        };
        for batch in batches {
            let rows = TargetRows::of(batch, &model.device());
            let (pass, mut hidden) = Forward::begin(model, &batch.inputs, &batch.positions, batch.sequence_length);
            for block in 0..blocks {
                let traced;
                (hidden, traced) = pass.trace(block, hidden);
                add(&mut sums.heads[block], traced.heads, &rows);
                add(&mut sums.neurons[block], traced.neurons, &rows);
                sums.add_norm(2 * block, traced.attention, &rows);
                sums.add_norm(2 * block + 1, traced.feed_forward, &rows);
            }
            sums.add_norm(2 * blocks, pass.trace_end(hidden), &rows);
        }
        sums
    }

    fn add_norm(&mut self, norm: usize, traced: TracedNorm, rows: &TargetRows) {
        add(&mut self.norm_inputs[norm], traced.before, rows);
        add(&mut self.norm_outputs[norm], traced.after, rows);
    }
}

/// Adds the squares of `activations` over the rows that have a target, in 64 bits across batches.
///
/// # Shapes
/// - `activations`: `[rows, tokens, width]`
fn add(sums: &mut Vec<f64>, activations: Tensor<3>, rows: &TargetRows) {
    let activations = rows.select(activations.flatten(0, 1)); // [target rows, width]
    let squares = HostTensor::from_tensor(activations.square().sum_dim(0)).values;
    sums.resize(squares.len(), 0.0);
    sums.iter_mut().zip(squares).for_each(|(sum, square)| *sum += f64::from(square));
}

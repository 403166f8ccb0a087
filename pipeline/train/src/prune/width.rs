//! Which heads, neurons and channels a model can do without.

use limbeck_config::ModelConfig;
use limbeck_data::Batch;
use limbeck_model::{BlockCut, Cut, HostTensor, NamedTensors, Transformer, parameters};

use crate::input_squares::InputSquares;
use crate::prune::targets;

/// What each part of a model matters on the calibration data.
///
/// A column of a matrix matters as much as what it adds to the output: the mean square of the activation that it is
/// multiplied with, times its squared norm. A neuron is a column of `down_proj`, a head the columns of `o_proj` that read it.
/// A channel is a column of every matrix behind a norm; each norm counts the same, so a channel's importance is the mean
/// over the norms of its share of what they hand on.
///
/// # Source
/// |W| · ‖x‖ is Wanda's (Sun et al. 2023, arXiv:2306.11695), for single weights; for whole columns it is FLAP's (An et al. 2023,
/// arXiv:2312.11983), with the mean square in place of the variance. Minitron (Muralidharan et al. 2024, arXiv:2407.14679,
/// section 2.2) takes the activations of the same places alone, which does not see that a matrix ignores what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct WidthImportance {
    /// One a block and query head.
    pub heads: Vec<Vec<f64>>,
    /// One a block and neuron.
    pub neurons: Vec<Vec<f64>>,
    /// One a channel of the stream between the blocks; they sum to 1.
    pub channels: Vec<f64>,
    /// Mean squares of what each norm reads, one a channel: attention's and the feed-forward layer's of each block in turn,
    /// and the last one.
    stream: Vec<Vec<f64>>,
}

impl WidthImportance {
    /// Measures `model` in one pass over `batches`.
    pub fn measure(model: &Transformer, batches: &[Batch]) -> Self {
        let config = model.config();
        let sums = InputSquares::over(model, batches);
        let weights = parameters(model);
        let squares =
            |block: usize, name: &str| column_squares(&weights[&format!("model.layers.{block}.{name}.weight")]);
        let blocks = || 0..config.num_hidden_layers;
        let heads = blocks().map(|block| {
            let columns = products(&sums.heads[block], &squares(block, "self_attn.o_proj"));
            columns.chunks(config.head_dim).map(|columns| columns.iter().sum()).collect()
        });
        let neurons = blocks().map(|block| products(&sums.neurons[block], &squares(block, "mlp.down_proj")));
        let readers = blocks().flat_map(|block| {
            let attention = ["q_proj", "k_proj", "v_proj"].map(|name| squares(block, &format!("self_attn.{name}")));
            let feed_forward = ["gate_proj", "up_proj"].map(|name| squares(block, &format!("mlp.{name}")));
            [total(&attention), total(&feed_forward)]
        });
        let readers = readers.chain([column_squares(output_weight(&weights))]);
        let mut channels = vec![0.0; config.hidden_size];
        for (outputs, readers) in sums.norm_outputs.iter().zip(readers) {
            let handed_on = products(outputs, &readers);
            let all: f64 = handed_on.iter().sum::<f64>().max(f64::MIN_POSITIVE) * sums.norm_outputs.len() as f64;
            channels.iter_mut().zip(handed_on).for_each(|(channel, share)| *channel += share / all);
        }
        let count = targets(batches);
        let stream = sums.norm_inputs.iter().map(|sums| sums.iter().map(|sum| sum / count).collect()).collect();
        Self { heads: heads.collect(), neurons: neurons.collect(), channels, stream }
    }

    /// The cut to the width of `shape` that keeps what matters most; of equals the first.
    ///
    /// Heads go by whole groups: first the query heads that matter least of every key-value head, until as many a group are
    /// left as `shape` has, then the groups that matter least.
    ///
    /// # Panics
    /// If `shape` is no smaller shape of the same model.
    pub fn cut(&self, whole: &ModelConfig, shape: &ModelConfig) -> Cut {
        let channels = largest(&self.channels, shape.hidden_size);
        let gain = |norm: usize| gain(&self.stream[norm], &channels);
        let block = |block: usize| {
            let (heads, key_value_heads) = heads(&self.heads[block], whole, shape);
            BlockCut {
                block,
                heads,
                key_value_heads,
                neurons: largest(&self.neurons[block], shape.intermediate_size),
                attention_gain: gain(2 * block),
                feed_forward_gain: gain(2 * block + 1),
            }
        };
        let blocks = (0..whole.num_hidden_layers).map(block).collect();
        Cut { blocks, gain: gain(2 * whole.num_hidden_layers), channels, ..Cut::nothing(whole) }
    }
}

/// The squared norm of each column.
fn column_squares(matrix: &HostTensor) -> Vec<f64> {
    let mut squares = vec![0.0; matrix.shape[1]];
    for row in matrix.values.chunks(matrix.shape[1]) {
        squares.iter_mut().zip(row).for_each(|(square, value)| *square += f64::from(*value) * f64::from(*value));
    }
    squares
}

/// A tied model's output weights are its embedding.
fn output_weight(weights: &NamedTensors) -> &HostTensor {
    weights.get("lm_head.weight").unwrap_or_else(|| &weights["model.embed_tokens.weight"])
}

fn products(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one * other).collect()
}

fn total(lists: &[Vec<f64>]) -> Vec<f64> {
    let width = lists.first().map_or(0, Vec::len);
    (0..width).map(|index| lists.iter().map(|list| list[index]).sum()).collect()
}

/// The places of the `count` largest values, in order; of equals the first.
fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|one, other| values[*other].total_cmp(&values[*one]));
    places.truncate(count);
    places.sort_unstable();
    places
}

/// The query heads and key-value heads of a block that stay.
fn heads(importance: &[f64], whole: &ModelConfig, shape: &ModelConfig) -> (Vec<usize>, Vec<usize>) {
    let before = whole.num_attention_heads / whole.num_key_value_heads;
    let after = shape.num_attention_heads / shape.num_key_value_heads;
    let within: Vec<Vec<usize>> = importance.chunks(before).map(|group| largest(group, after)).collect();
    let sum = |(group, heads): (usize, &Vec<usize>)| heads.iter().map(|head| importance[group * before + head]).sum();
    let groups: Vec<f64> = within.iter().enumerate().map(sum).collect();
    let groups = largest(&groups, shape.num_key_value_heads);
    let heads = groups.iter().flat_map(|group| within[*group].iter().map(move |head| group * before + head)).collect();
    (heads, groups)
}

/// What a norm's weight is multiplied with so that the channels that stay come out of it as large as before, on average:
/// its root mean square is now over them alone.
fn gain(mean_squares: &[f64], channels: &[usize]) -> f32 {
    let mean = |sum: f64, count: usize| sum / count as f64;
    let before = mean(mean_squares.iter().sum(), mean_squares.len());
    let after = mean(channels.iter().map(|channel| mean_squares[*channel]).sum(), channels.len());
    if before > 0.0 && after > 0.0 { (after / before).sqrt() as f32 } else { 1.0 }
}

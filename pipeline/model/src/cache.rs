//! Keys and values of the tokens that a generation has read.

use burn::tensor::{Device, Tensor};
use limbeck_config::ModelConfig;
use limbeck_kernels::causal_mask;

/// One layer's keys (after the rotary embedding) and values, allocated once.
#[derive(Debug)]
pub(crate) struct LayerCache {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl LayerCache {
    /// Stores the new columns from `start` on and returns all columns so far.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[rows, num_key_value_heads, new, head_dim]`
    /// - outputs: `[rows, num_key_value_heads, start + new, head_dim]`
    pub(crate) fn append(&mut self, keys: Tensor<4>, values: Tensor<4>, start: usize) -> (Tensor<4>, Tensor<4>) {
        let store = |cache: &mut Tensor<4>, new: Tensor<4>| {
            let [rows, heads, _, head_dim] = cache.dims();
            let end = start + new.dims()[2];
            // Taken out, so that the tensor has one owner and is written where it is.
            let whole = std::mem::replace(cache, Tensor::empty([1, 1, 1, 1], &new.device()));
            *cache = whole.slice_assign([0..rows, 0..heads, start..end, 0..head_dim], new);
            cache.clone().narrow(2, 0, end)
        };
        (store(&mut self.keys, keys), store(&mut self.values, values))
    }
}

/// The key-value cache of a batch. Rows are aligned at their ends: row `i` starts at column `left_padding[i]`.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    left_padding: Vec<usize>,
    columns: usize,
}

/// Where the tokens of one forward pass stand.
#[derive(Debug)]
pub(crate) struct Context {
    /// First column of the pass.
    pub(crate) start: usize,
    /// `[rows * tokens]`, each token's position in its own row.
    pub(crate) positions: Vec<u32>,
    /// `[rows, 1, 1, tokens, start + tokens]`.
    pub(crate) mask: Tensor<5>,
}

impl Cache {
    pub(crate) fn new(config: &ModelConfig, left_padding: Vec<usize>, capacity: usize, device: &Device) -> Self {
        let shape = [left_padding.len(), config.num_key_value_heads, capacity, config.head_dim];
        let layer = |_| LayerCache { keys: Tensor::zeros(shape, device), values: Tensor::zeros(shape, device) };
        Self { layers: (0..config.num_hidden_layers).map(layer).collect(), left_padding, columns: 0 }
    }

    /// The context of the next `tokens` columns, which are then taken as read.
    pub(crate) fn advance(&mut self, tokens: usize, device: &Device) -> Context {
        let start = self.columns;
        self.columns += tokens;
        let rows = self.left_padding.len();
        let column = |i: usize| start + i;
        let positions = self
            .left_padding
            .iter()
            .flat_map(|padding| (0..tokens).map(move |i| column(i).saturating_sub(*padding) as u32))
            .collect();
        let visible = |row: usize, query: usize, key: usize| (self.left_padding[row]..=column(query)).contains(&key);
        let mask = causal_mask([rows, tokens, self.columns], visible, device);
        Context { start, positions, mask }
    }
}

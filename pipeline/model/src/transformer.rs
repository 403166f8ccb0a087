//! Embedding, blocks, final norm, output weights.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use limbeck_config::{FakeQuantSection, ModelConfig};
use limbeck_kernels::{CachePlan, KeyValueCache, Precision, embedding, int8_rounded, linear};

use crate::block::{Arithmetic, Block};
use crate::cache::Cache;
use crate::fake_quant::RoundedInputs;
use crate::forward::Forward;
use crate::initialize::initialize;
use crate::layers::{Embedding, Linear, RmsNorm};

/// What Hugging Face's files keep under `model.`.
#[derive(Module, Debug)]
pub struct Body {
    pub(crate) embed_tokens: Embedding,
    pub(crate) layers: Vec<Block>,
    pub(crate) norm: RmsNorm,
}

/// A causal language model. Its parameters' paths are Hugging Face's names.
#[derive(Module, Debug)]
pub struct Transformer {
    pub(crate) model: Body,
    /// `None` where the embedding is the output weight too.
    lm_head: Option<Linear>,
    #[module(skip)]
    config: ModelConfig,
    #[module(skip)]
    precision: Precision,
    #[module(skip)]
    fake_quant: Option<FakeQuantSection>,
    #[module(skip)]
    rounded_inputs: RoundedInputs,
}

impl Transformer {
    /// A model with random weights, a pure function of `seed` and each parameter's name: see [`initialize`].
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        initialize(Self::zeros(config, device), seed)
    }

    /// A model with zero matrices and unit norms, to be loaded into.
    pub fn zeros(config: &ModelConfig, device: &Device) -> Self {
        let vocabulary = || Linear::zeros(config.hidden_size, config.vocab_size, device);
        let model = Body {
            embed_tokens: Embedding { weight: vocabulary().weight },
            layers: (0..config.num_hidden_layers).map(|_| Block::new(config, device)).collect(),
            norm: RmsNorm::new(config.hidden_size, config.rms_norm_eps, device),
        };
        let lm_head = (!config.tie_word_embeddings).then(vocabulary);
        let (precision, rounded_inputs) = (Precision::Fp32, RoundedInputs::default());
        Self { model, lm_head, config: config.clone(), precision, fake_quant: None, rounded_inputs }
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model with its products in `precision`; its weights stay 32-bit floats. [`Precision::Fp32`] before.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// What the inputs of its products are rounded to.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The model whose parameters are the 32-bit masters of weights on an export's grid, see [`Transformer::on_grid`]; with
    /// `None`, which it is before, those it computes with.
    pub fn with_fake_quant(self, section: Option<FakeQuantSection>) -> Self {
        let rounded_inputs = RoundedInputs::of(section.as_ref(), &self.config);
        Self { fake_quant: section, rounded_inputs, ..self }
    }

    /// What its parameters are the masters of.
    pub fn fake_quant(&self) -> Option<&FakeQuantSection> {
        self.fake_quant.as_ref()
    }

    /// The model with parameters that it computes with, and its inputs of matrices rounded as they are.
    pub(crate) fn with_exact_weights(self) -> Self {
        Self { fake_quant: None, ..self }
    }

    pub(crate) fn rounded_inputs(&self) -> RoundedInputs {
        self.rounded_inputs
    }

    /// What the output weights read of the last norm's output.
    pub(crate) fn head_input<const D: usize>(&self, normed: Tensor<D>) -> Tensor<D> {
        if self.rounded_inputs.output { int8_rounded(normed) } else { normed }
    }

    /// Where the parameters are, without autodiff.
    pub fn device(&self) -> Device {
        self.model.embed_tokens.weight.val().device().inner()
    }

    /// The model as constants: nothing that it computes is tracked.
    pub fn without_autodiff(self) -> Self {
        self.map(&mut Untracked)
    }

    /// The weights of the loss head: `[vocab_size, hidden_size]`.
    pub fn output_weight(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.weight.val(),
            None => self.model.embed_tokens.weight.val(),
        }
    }

    /// The last hidden states, normed: what the loss head multiplies with the output weights.
    ///
    /// # Shapes
    /// - `inputs`: `[rows * sequence_length]` token ids
    /// - `positions`: the same, see [`AttentionPlan::new`]
    /// - output: `[rows * sequence_length, hidden_size]`
    pub fn hidden(&self, inputs: &[u32], positions: &[u32], sequence_length: usize) -> Tensor<2> {
        self.hidden_with(inputs, positions, sequence_length, |_, _| ())
    }

    /// [`Transformer::hidden`]; `each` sees what every block gives, `[rows, sequence_length, hidden_size]`.
    pub fn hidden_with(
        &self,
        inputs: &[u32],
        positions: &[u32],
        sequence_length: usize,
        mut each: impl FnMut(usize, &Tensor<3>),
    ) -> Tensor<2> {
        let (pass, mut stream) = Forward::begin(self, inputs, positions, sequence_length);
        for block in 0..self.config.num_hidden_layers {
            stream = pass.block(block, stream);
            each(block, &stream);
        }
        pass.end(stream)
    }

    /// The logits of every token, for tests and short texts: training uses the loss head.
    ///
    /// # Shapes
    /// As [`Transformer::hidden`]; output: `[rows * sequence_length, vocab_size]`
    pub fn logits(&self, inputs: &[u32], positions: &[u32], sequence_length: usize) -> Tensor<2> {
        linear(self.hidden(inputs, positions, sequence_length), self.output_weight(), self.precision)
    }

    /// The logits of each row's last token, after reading `inputs` behind what `cache` holds.
    ///
    /// # Shapes
    /// - `inputs`: `[rows * tokens]`
    /// - output: `[rows, vocab_size]`
    pub(crate) fn next_logits(&self, inputs: &[u32], tokens: usize, cache: &mut Cache) -> Tensor<2> {
        let plan = cache.advance(tokens);
        let mut hidden = embedding(self.model.embed_tokens.weight.val(), inputs, tokens);
        for (block, cache) in self.model.layers.iter().zip(&mut cache.layers) {
            hidden = block.forward_cached(hidden, self.arithmetic(), |projected, norms, layout| {
                cache.attend(projected, norms, layout, &plan)
            });
        }
        self.last_logits(hidden)
    }

    /// [`Transformer::next_logits`] for a token of each of several rows, which are kept in caches of their own.
    ///
    /// # Shapes
    /// - `inputs`: `[rows]`, as many as `caches`
    /// - output: `[rows, vocab_size]`
    pub(crate) fn next_logits_each(&self, inputs: &[u32], caches: &mut [&mut Cache]) -> Tensor<2> {
        let plans: Vec<CachePlan> = caches.iter_mut().map(|cache| cache.advance(1)).collect();
        let mut hidden = embedding(self.model.embed_tokens.weight.val(), inputs, 1);
        for (index, block) in self.model.layers.iter().enumerate() {
            let caches: Vec<&mut KeyValueCache> = caches.iter_mut().map(|cache| &mut cache.layers[index]).collect();
            hidden = block.forward_cached(hidden, self.arithmetic(), |projected, norms, layout| {
                KeyValueCache::attend_each(caches, projected, norms, layout, &plans)
            });
        }
        self.last_logits(hidden)
    }

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic { precision: self.precision, int8_inputs: self.rounded_inputs.blocks }
    }

    /// `[rows, tokens, hidden_size]` to `[rows, vocab_size]`.
    fn last_logits(&self, hidden: Tensor<3>) -> Tensor<2> {
        let [rows, tokens, hidden_size] = hidden.dims();
        let last = hidden.narrow(1, tokens - 1, 1); // [rows, 1, hidden_size]
        let last = self.model.norm.forward(last).reshape([rows, hidden_size]);
        linear(self.head_input(last), self.output_weight(), self.precision)
    }
}

struct Untracked;

impl ModuleMapper for Untracked {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        parameter.map(Tensor::inner)
    }
}

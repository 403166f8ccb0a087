//! From a `[model]` section to a checked shape, and how many parameters it has.

use crate::model::{Architecture, ModelConfig, ModelSection};
use crate::problem::Problem;
use crate::rules::{self, nearest_multiples};

/// 2⁴⁰, 4 TiB of 32-bit floats.
const MOST_PARAMETERS: usize = 1 << 40;

impl ModelSection {
    /// Derives what is left out, for a tokenizer of `vocab_size` entries and rows of `sequence_length` tokens.
    ///
    /// # Errors
    /// Every rule that the shape breaks: see [`ModelConfig::validate`]; a `vocab_size` that is not the tokenizer's; a
    /// `max_position_embeddings` under `sequence_length`.
    pub fn resolve(&self, vocab_size: usize, sequence_length: usize) -> Result<ModelConfig, Vec<Problem>> {
        let config = self.derive(vocab_size, sequence_length);
        let mut problems = Vec::new();
        if config.vocab_size != vocab_size {
            problems.push(
                Problem::new("model.vocab_size", config.vocab_size, format!("must be the tokenizer's `{vocab_size}`"))
                    .hint("leave model.vocab_size out, or name the tokenizer that it belongs to in data.tokenizer"),
            );
        }
        self.check_derived(&config, sequence_length, &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// The rules that do not need the tokenizer.
    pub(crate) fn check(&self, sequence_length: usize, problems: &mut Vec<Problem>) {
        // Any vocabulary will do when the section does not name one.
        let config = self.derive(self.vocab_size.unwrap_or(1), sequence_length);
        self.check_derived(&config, sequence_length, problems);
    }

    fn derive(&self, vocab_size: usize, sequence_length: usize) -> ModelConfig {
        let head_dim = self.hidden_size.checked_div(self.num_attention_heads).unwrap_or(0);
        ModelConfig {
            architecture: self.architecture,
            vocab_size: self.vocab_size.unwrap_or(vocab_size),
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_dim.unwrap_or(head_dim),
            rms_norm_eps: self.rms_norm_eps,
            rope_theta: self.rope_theta,
            tie_word_embeddings: self.tie_word_embeddings,
            max_position_embeddings: self.max_position_embeddings.unwrap_or(sequence_length),
        }
    }

    fn check_derived(&self, config: &ModelConfig, sequence_length: usize, problems: &mut Vec<Problem>) {
        let heads = self.num_attention_heads;
        let divides = self.hidden_size.checked_rem(heads).is_none_or(|rest| rest == 0);
        if self.head_dim.is_none() && self.hidden_size > 0 && !divides {
            let rule =
                format!("must be divisible by model.num_attention_heads = `{heads}`, or model.head_dim be given");
            problems.push(
                Problem::new("model.hidden_size", self.hidden_size, rule)
                    .reads("model.num_attention_heads")
                    .hint(nearest_multiples(self.hidden_size, heads)),
            );
        } else {
            // Without heads of whole width, what follows from the width is noise.
            config.check_head_dim(self.head_dim.is_none(), problems);
        }
        config.check_sizes(problems);
        let positions = config.max_position_embeddings;
        if positions > 0 && positions < sequence_length {
            let rule = format!("must be at least data.sequence_length = `{sequence_length}`");
            problems.push(
                Problem::new("model.max_position_embeddings", positions, rule)
                    .reads("data.sequence_length")
                    .hint(format!("use `{sequence_length}`, or leave it out")),
            );
        }
    }
}

impl ModelConfig {
    /// Checks a shape that came from elsewhere, such as a checkpoint's `config.json`.
    ///
    /// # Errors
    /// Every rule that it breaks: sizes of at least 1, `num_key_value_heads` a divisor of `num_attention_heads`,
    /// `head_dim` even, since rotation takes pairs, `rms_norm_eps` over 0, `rope_theta` over 1.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        self.check_head_dim(false, &mut problems);
        self.check_sizes(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn check_sizes(&self, problems: &mut Vec<Problem>) {
        let sizes = [
            ("model.vocab_size", self.vocab_size),
            ("model.hidden_size", self.hidden_size),
            ("model.intermediate_size", self.intermediate_size),
            ("model.num_hidden_layers", self.num_hidden_layers),
            ("model.num_attention_heads", self.num_attention_heads),
            ("model.max_position_embeddings", self.max_position_embeddings),
        ];
        for (key, size) in sizes {
            rules::at_least(problems, key, size as u64, 1);
        }
        self.check_key_value_heads(problems);
        self.check_parameters(problems);
        rules::positive(problems, "model.rms_norm_eps", self.rms_norm_eps, "1e-6");
        if !(self.rope_theta.is_finite() && self.rope_theta > 1.0) {
            problems.push(
                Problem::new("model.rope_theta", format!("{:?}", self.rope_theta), "must be a finite number over `1`")
                    .hint("`10000` is usual for short sequences"),
            );
        }
    }

    /// A slip of the keyboard must not reach the allocator, which ends the process.
    fn check_parameters(&self, problems: &mut Vec<Problem>) {
        let parameters = self.parameter_count();
        if parameters > MOST_PARAMETERS {
            let message = format!("has `{parameters}` parameters, must have at most `{MOST_PARAMETERS}`");
            problems.push(
                Problem::worded("model", message)
                    .reads("model.hidden_size")
                    .hint("lower hidden_size, intermediate_size, head_dim or the number of layers or heads"),
            );
        }
    }

    fn check_key_value_heads(&self, problems: &mut Vec<Problem>) {
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        if heads > 0 && (!heads.is_multiple_of(groups)) {
            let divisor =
                (1..=groups.min(heads)).rev().take(4096).find(|size| heads.is_multiple_of(*size)).unwrap_or(1);
            problems.push(
                Problem::new(
                    "model.num_key_value_heads",
                    groups,
                    format!("must divide model.num_attention_heads = `{heads}`"),
                )
                .reads("model.num_attention_heads")
                .hint(format!("use `{divisor}`, or leave it out for as many as query heads")),
            );
        }
    }

    fn check_head_dim(&self, derived: bool, problems: &mut Vec<Problem>) {
        let head_dim = self.head_dim;
        if derived && (self.hidden_size == 0 || self.num_attention_heads == 0) {
            return;
        }
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            let origin = if derived { "hidden_size / num_attention_heads " } else { "" };
            let rule = format!("{origin}must be even and at least `2`: rotary positions turn pairs");
            problems.push(
                Problem::new("model.head_dim", head_dim, rule)
                    .reads("model.hidden_size")
                    .reads("model.num_attention_heads")
                    .hint(nearest_multiples(head_dim, 2)),
            );
        }
    }

    /// Numbers to learn. Tied weights count once.
    ///
    /// With V = `vocab_size`, H = `hidden_size`, I = `intermediate_size`, L = `num_hidden_layers`, Q and K the numbers of
    /// query and key-value heads and D = `head_dim`:
    ///
    /// ```text
    /// embedding   V·H
    /// a block     Q·D·H + 2·K·D·H + H·Q·D      query, key and value, output
    ///             3·H·I                        gate, up, down
    ///             2·H                          two norms
    ///             2·D                          Qwen3 alone: norms of queries and keys, shared by the heads
    ///             Q·D + 2·K·D                  Qwen2 alone: biases of queries, keys and values
    /// last norm   H
    /// output      V·H                          untied alone
    /// ```
    ///
    /// Sizes beyond `usize` give its maximum.
    ///
    /// # Source
    /// `Qwen3ForCausalLM` and `LlamaForCausalLM` of transformers, without biases, and `Qwen2ForCausalLM`.
    pub fn parameter_count(&self) -> usize {
        let product = |sizes: &[usize]| sizes.iter().fold(1_u128, |all, &size| all.saturating_mul(size as u128));
        let sum = |counts: &[u128]| counts.iter().fold(0_u128, |all, &count| all.saturating_add(count));
        let (hidden, head_dim) = (self.hidden_size, self.head_dim);
        let vectors = match self.architecture {
            Architecture::Qwen3 => product(&[2, head_dim]),
            Architecture::Llama => 0,
            Architecture::Qwen2 => sum(&[
                product(&[self.num_attention_heads, head_dim]),
                product(&[2, self.num_key_value_heads, head_dim]),
            ]),
        };
        let block = sum(&[
            product(&[2, self.num_attention_heads, head_dim, hidden]),
            product(&[2, self.num_key_value_heads, head_dim, hidden]),
            product(&[3, hidden, self.intermediate_size]),
            product(&[2, hidden]),
            vectors,
        ]);
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        let total = sum(&[
            product(&[embeddings, self.vocab_size, hidden]),
            block.saturating_mul(self.num_hidden_layers as u128),
            hidden as u128,
        ]);
        usize::try_from(total).unwrap_or(usize::MAX)
    }

    /// Multiplications and additions that a forward pass needs, each counted as one.
    ///
    /// ```text
    /// matrices    2 · (L · (2·Q·D·H + 2·K·D·H + 3·H·I) + V·H) · tokens
    /// attention   4 · L · Q·D · pairs
    /// ```
    ///
    /// with the letters of [`ModelConfig::parameter_count`], and the pairs of a query and a key that it sees. The output weights
    /// count, the look-up of the same weights in the embedding does not; nor does what a program computes besides: norms,
    /// activations, softmax, masked pairs.
    ///
    /// # Source
    /// Kaplan et al. 2020, arXiv:2001.08361, section 2.1; attention as PaLM counts it (Chowdhery et al. 2022,
    /// arXiv:2204.02311, appendix B), of the pairs under the mask alone.
    pub fn forward_flops(&self, tokens: u64, pairs: u64) -> u64 {
        let query_size = self.num_attention_heads * self.head_dim;
        let key_size = self.num_key_value_heads * self.head_dim;
        let block = self.hidden_size * (2 * query_size + 2 * key_size + 3 * self.intermediate_size);
        let matrices = self.num_hidden_layers * block + self.vocab_size * self.hidden_size;
        2 * matrices as u64 * tokens + 4 * (self.num_hidden_layers * query_size) as u64 * pairs
    }
}

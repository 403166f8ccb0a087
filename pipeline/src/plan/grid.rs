//! The shapes that are looked at.

use limbeck_config::{Architecture, ModelConfig};

/// Widths and feed-forward widths are multiples of it: smaller rows have no K-quants.
const WIDTH: usize = 256;

/// Of a head, as every runtime has a fast path for.
const HEAD_DIM: usize = 64;

/// Query heads that share a key-value head, as in Llama 3 8B (arXiv:2407.21783): a quarter of the cache.
const GROUP: usize = 4;

const WIDEST: usize = 16 * WIDTH;

/// Blocks, each a fifth to a half more than the one before.
const DEPTHS: [usize; 13] = [4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 64];

/// Width over depth. Within these the shape hardly matters to the loss (Kaplan et al. 2020, arXiv:2001.08361, figure 5); on
/// devices deep and thin is the better half (MobileLLM, arXiv:2402.14905).
const ASPECTS: std::ops::RangeInclusive<usize> = 8..=128;

/// The feed-forward width over the width: two thirds of the usual four (Shazeer 2020, arXiv:2002.05202, keeps the parameters of
/// two matrices in three), around it less and more.
const FEED_FORWARD: [f64; 3] = [2.0, 8.0 / 3.0, 4.0];

/// Every shape of the grid for a vocabulary of `vocab_size` and sequences of up to `context` tokens.
pub(super) fn shapes(vocab_size: usize, context: usize) -> Vec<ModelConfig> {
    let mut shapes = Vec::new();
    for hidden_size in (WIDTH..=WIDEST).step_by(WIDTH) {
        for num_hidden_layers in DEPTHS.into_iter().filter(|depth| ASPECTS.contains(&(hidden_size / depth))) {
            let mut widths =
                FEED_FORWARD.map(|ratio| (ratio * hidden_size as f64 / WIDTH as f64).round() as usize * WIDTH).to_vec();
            widths.dedup();
            for intermediate_size in widths {
                shapes.push(ModelConfig {
                    architecture: Architecture::Qwen3,
                    vocab_size,
                    hidden_size,
                    intermediate_size,
                    num_hidden_layers,
                    num_attention_heads: hidden_size / HEAD_DIM,
                    num_key_value_heads: hidden_size / HEAD_DIM / GROUP,
                    head_dim: HEAD_DIM,
                    rms_norm_eps: 1e-6,
                    rope_theta: 10_000.0,
                    tie_word_embeddings: true,
                    max_position_embeddings: context,
                });
            }
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_valid_and_no_two_are_the_same() {
        let shapes = shapes(1000, 512);
        assert!(shapes.len() > 300, "{}", shapes.len());
        for (index, shape) in shapes.iter().enumerate() {
            assert!(shape.validate().is_ok(), "{shape:?}");
            assert!(shape.hidden_size.is_multiple_of(256) && shape.intermediate_size.is_multiple_of(256));
            assert!(shapes[..index].iter().all(|other| other != shape));
        }
        // Eight thirds of 256 are 683, to the nearest multiple.
        let widths =
            |hidden_size| shapes.iter().filter(move |s| s.hidden_size == hidden_size && s.num_hidden_layers == 8);
        assert_eq!(widths(256).map(|shape| shape.intermediate_size).collect::<Vec<_>>(), [512, 768, 1024]);
        assert_eq!(widths(768).map(|shape| shape.intermediate_size).collect::<Vec<_>>(), [1536, 2048, 3072]);
    }
}

//! `[capture]`: how a teacher's logits are kept.

use serde::{Deserialize, Serialize};

/// What is kept of a teacher's distribution at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LogitsCodec {
    /// Ids drawn from it with replacement, as counts: unbiased for forward KL at the captured temperature alone.
    RandomSampling {
        /// Draws of a position.
        #[serde(default = "fifty")]
        draws: u32,
        /// Independent draws of the whole data: each epoch takes the next one.
        #[serde(default = "one")]
        sets: u32,
    },
    /// The most probable ids, and what is left over as one sum: the divergence of the coarsened distribution.
    TopK {
        /// Ids of a position.
        k: u32,
    },
    /// Every logit, in 32 bits: `4 * vocab_size` bytes a token before compression.
    Full {},
}

fn fifty() -> u32 {
    50
}

fn one() -> u32 {
    1
}

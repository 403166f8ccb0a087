//! Why a loss was refused.

/// Why a loss was refused.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    /// Samples of the teacher can stand for it in forward KL alone.
    #[error(
        "distill.divergence is `{divergence}`, must be `forward_kl` for sampled logits: the mean over samples of another \
         divergence's gradient is not its gradient; hint: capture with top-k or full, or use forward_kl"
    )]
    Samples {
        /// Its name in the config.
        divergence: &'static str,
    },
    /// A row of sparse targets is no distribution over the vocabulary.
    #[error("row `{row}` of the sparse targets has {rule}; hint: capture the teacher's logits again")]
    Sparse {
        /// Counted from 0.
        row: usize,
        /// What it has and what it must.
        rule: String,
    },
    /// The parts of sparse targets do not fit together.
    #[error(
        "the sparse targets have `{length}` {what}, must be `{expected}`; hint: capture the teacher's logits again"
    )]
    Lengths {
        /// Of what.
        what: &'static str,
        /// How many there are.
        length: usize,
        /// How many there must be.
        expected: usize,
    },
    /// Where the rows of sparse targets begin cannot be.
    #[error(
        "the offsets of the sparse targets must begin with `0` and not go down; hint: capture the teacher's logits again"
    )]
    Offsets,
}

//! Cross-entropy that is mixed into another loss of the same rows of logits.

use burn::tensor::{Int, Tensor};

use crate::row_losses::indices;
use crate::simd::{exp_shifted, largest};

/// A share of cross-entropy, at temperature 1.
#[derive(Clone, Debug)]
pub struct LabelShare {
    /// Of cross-entropy; the other loss has the rest of 1.
    pub weight: f64,
    /// The labels: `[rows]`.
    pub targets: Tensor<1, Int>,
}

impl LabelShare {
    /// The weight, 0 without labels, and the labels.
    pub(crate) fn split(share: Option<Self>) -> (f64, Option<Vec<usize>>) {
        share.map_or((0.0, None), |share| (share.weight, Some(indices(share.targets))))
    }
}

/// The label of a row with its logit, read before that is overwritten.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub(crate) id: usize,
    pub(crate) logit: f64,
}

impl Label {
    #[inline(always)]
    pub(crate) fn of(logits: &[f32], id: usize) -> Self {
        Self { id, logit: f64::from(logits[id]) }
    }
}

/// A softmax of its own, for a loss whose softmax has another temperature.
pub(crate) struct LabelSoftmax {
    pub(crate) log_sum: f64,
    /// Turns the exponentials into probabilities.
    share: f64,
}

impl LabelSoftmax {
    #[inline(always)]
    pub(crate) fn of(logits: &[f32], exponentials: &mut Vec<f32>) -> Self {
        exponentials.clear();
        exponentials.extend_from_slice(logits);
        let shift = largest(logits);
        let sum = f64::from(exp_shifted(exponentials, shift));
        Self { log_sum: sum.ln() + f64::from(shift), share: sum.recip() }
    }

    /// `gradient + weight · softmax`.
    #[inline(always)]
    pub(crate) fn add(&self, gradient: &mut [f32], exponentials: &[f32], weight: f64) {
        let factor = (weight * self.share) as f32;
        for (gradient, exponential) in gradient.iter_mut().zip(exponentials) {
            *gradient += factor * exponential;
        }
    }
}

//! A student's logits over the vocabulary as logits over a few classes, and the gradient's way back.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use crate::sparse::{NOTHING, SparseTargets};

/// Rows over the listed ids and, last, everything else together.
///
/// The logit of a listed id stays what it is, and that of the rest is the logarithm of its Σ exp: the softmax over these
/// classes has the probabilities of the softmax over the vocabulary, and nothing was subtracted from 1.
pub(crate) struct Coarse {
    ids: Tensor<2, Int>,
    /// `[rows, classes]`, without the rest.
    listed: Tensor<2>,
    /// ln Σ exp over the rest: `[rows, 1]`.
    rest: Tensor<2>,
    /// exp(logit) over the largest of the rest, 0 for the listed ids: `[rows, vocab_size]`.
    exponentials: Tensor<2>,
    /// Their sums: `[rows, 1]`.
    sums: Tensor<2>,
}

impl Coarse {
    /// # Shapes
    /// - `student`: `[rows, vocab_size]`
    pub(crate) fn of(student: Tensor<2>, targets: &SparseTargets) -> Self {
        let ids = targets.ids.clone();
        let listed = student.clone().gather(1, ids.clone()).mask_fill(targets.padding(), NOTHING);
        let nothing = listed.full_like(NOTHING);
        let rest = student.scatter(1, ids.clone(), nothing, IndexingUpdateOp::Add); // [rows, vocab_size]
        let largest = rest.clone().max_dim(1); // [rows, 1]
        let exponentials = (rest - largest.clone()).exp();
        let sums = exponentials.clone().sum_dim(1); // [rows, 1]
        Self { ids, listed, rest: largest + sums.clone().log(), exponentials, sums }
    }

    /// `[rows, classes + 1]`.
    pub(crate) fn logits(&self) -> Tensor<2> {
        Tensor::cat(vec![self.listed.clone(), self.rest.clone()], 1)
    }

    /// The derivative by the vocabulary's logits from that by these: the rest shares its own by probability.
    ///
    /// # Shapes
    /// - `gradient`: `[rows, classes + 1]`; the result: `[rows, vocab_size]`
    pub(crate) fn logit_gradient(self, gradient: Tensor<2>) -> Tensor<2> {
        let classes = self.ids.dims()[1];
        let (listed, rest) = (gradient.clone().narrow(1, 0, classes), gradient.narrow(1, classes, 1));
        (self.exponentials * (rest / self.sums)).scatter(1, self.ids, listed, IndexingUpdateOp::Add)
    }
}

//! A student's logits over the vocabulary as logits over a few classes, and the gradient's way back.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use limbeck_kernels::{CoarseRows, Implementation, NOTHING, implementation_for};

use crate::sparse::PaddedTargets;

/// Rows over the listed ids and, last, everything else together.
///
/// The logit of a listed id stays what it is, and that of the rest is the logarithm of its Σ exp: the softmax over these
/// classes has the probabilities of the softmax over the vocabulary, and nothing was subtracted from 1.
pub(crate) struct Coarse {
    /// `[rows, classes + 1]`.
    pub(crate) logits: Tensor<2>,
    way_back: WayBack,
}

enum WayBack {
    Fused(CoarseRows),
    Composed(Exponentials),
}

/// The softmax over the rest.
struct Exponentials {
    ids: Tensor<2, Int>,
    /// exp(logit) over the largest of the rest, 0 for the listed ids: `[rows, vocab_size]`.
    exponentials: Tensor<2>,
    /// Their sums: `[rows, 1]`.
    sums: Tensor<2>,
}

impl Coarse {
    /// # Shapes
    /// - `student`: `[rows, vocab_size]`
    pub(crate) fn of(student: Tensor<2>, targets: &PaddedTargets) -> Self {
        let (listed, rest, way_back) = match implementation_for(&student) {
            Implementation::Fused => {
                let rows = CoarseRows::of(student, targets.ids.clone());
                (rows.listed.clone(), rows.rest.clone(), WayBack::Fused(rows))
            }
            Implementation::Composed => {
                let (listed, rest, exponentials) = composed(student, targets.ids.clone());
                (listed, rest, WayBack::Composed(exponentials))
            }
        };
        let listed = listed.mask_fill(targets.padding(), NOTHING);
        Self { logits: Tensor::cat(vec![listed, rest], 1), way_back }
    }

    /// The derivative by the vocabulary's logits from that by these: the rest shares its own by probability.
    ///
    /// # Shapes
    /// - `gradient`: `[rows, classes + 1]`; the result: `[rows, vocab_size]`
    pub(crate) fn logit_gradient(self, gradient: Tensor<2>) -> Tensor<2> {
        match self.way_back {
            WayBack::Fused(rows) => rows.logit_gradient(gradient),
            WayBack::Composed(exponentials) => exponentials.logit_gradient(gradient),
        }
    }
}

/// Logits of the listed ids and of the rest: `[rows, classes]`, `[rows, 1]`.
fn composed(student: Tensor<2>, ids: Tensor<2, Int>) -> (Tensor<2>, Tensor<2>, Exponentials) {
    let listed = student.clone().gather(1, ids.clone());
    let nothing = listed.full_like(NOTHING);
    let rest = student.scatter(1, ids.clone(), nothing, IndexingUpdateOp::Add); // [rows, vocab_size]
    let largest = rest.clone().max_dim(1); // [rows, 1]
    let exponentials = (rest - largest.clone()).exp();
    let sums = exponentials.clone().sum_dim(1); // [rows, 1]
    (listed, largest + sums.clone().log(), Exponentials { ids, exponentials, sums })
}

impl Exponentials {
    fn logit_gradient(self, gradient: Tensor<2>) -> Tensor<2> {
        let classes = self.ids.dims()[1];
        let (listed, rest) = (gradient.clone().narrow(1, 0, classes), gradient.narrow(1, classes, 1));
        (self.exponentials * (rest / self.sums)).scatter(1, self.ids, listed, IndexingUpdateOp::Add)
    }
}

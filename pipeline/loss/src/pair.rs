//! What every divergence is made from, and what it gives.

use burn::tensor::Tensor;

/// The student's and the teacher's probability of a class, as numbers or as tensors of `[rows, classes]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<N> {
    /// The student's, q.
    pub(crate) student: N,
    /// The teacher's, p.
    pub(crate) teacher: N,
    /// ln(q / p), from logits: finite where the probabilities are too small for a float.
    pub(crate) log_ratio: N,
}

/// A divergence D by class, and where it pulls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<N> {
    /// What the class adds to D, never under 0.
    pub(crate) value: N,
    /// q ∂D/∂q, up to a multiple of q that is the same for the whole row and has no part in the gradient.
    pub(crate) slope: N,
}

impl Pair<Tensor<2>> {
    /// The softmax of both. Equal logits give the same bits twice and the ratio 0.
    ///
    /// # Shapes
    /// - `student`, `teacher`: `[rows, classes]`, finite
    pub(crate) fn of_logits(student: Tensor<2>, teacher: Tensor<2>) -> Self {
        let (student, teacher) = (Softmax::of(student), Softmax::of(teacher));
        // Not log q - log p: two numbers near -10 would keep a tenth of the digits of their difference.
        let log_ratio = student.centred - teacher.centred - (student.log_sum - teacher.log_sum);
        Self { student: student.probabilities, teacher: teacher.probabilities, log_ratio }
    }
}

struct Softmax {
    /// Logits minus the row's largest.
    centred: Tensor<2>,
    /// ln Σ exp(centred): `[rows, 1]`.
    log_sum: Tensor<2>,
    probabilities: Tensor<2>,
}

impl Softmax {
    fn of(logits: Tensor<2>) -> Self {
        let largest = logits.clone().max_dim(1); // [rows, 1]
        let centred = logits - largest;
        let exponentials = centred.clone().exp();
        let sums = exponentials.clone().sum_dim(1); // [rows, 1]
        Self { centred, log_sum: sums.clone().log(), probabilities: exponentials / sums }
    }
}

impl Terms<Tensor<2>> {
    /// Σ D, and its derivative by the logits whose softmax is `student`: `[1]`, `[rows, classes]`.
    ///
    /// `slopes_cancel` says that the slopes of every row add up to 0, so that they are the gradient already.
    pub(crate) fn finish(self, student: Tensor<2>, slopes_cancel: bool) -> (Tensor<1>, Tensor<2>) {
        // Rows first: the CPU shares a sum of millions of terms among its threads in an order that changes.
        let value = self.value.sum_dim(1).sum();
        if slopes_cancel {
            return (value, self.slope);
        }
        let sums = self.slope.clone().sum_dim(1); // [rows, 1]
        (value, self.slope - student * sums)
    }
}

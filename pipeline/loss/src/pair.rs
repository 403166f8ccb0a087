//! What every divergence is made from, and what it gives.

use burn::tensor::Tensor;

/// The student's and the teacher's distribution over the same classes, a pair a row.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// The student's probabilities, q: `[rows, classes]`.
    pub(crate) student: Tensor<2>,
    /// The teacher's probabilities, p: `[rows, classes]`.
    pub(crate) teacher: Tensor<2>,
    /// ln(q / p), from logits: finite where the probabilities are too small for a float. `[rows, classes]`
    pub(crate) log_ratio: Tensor<2>,
}

impl Pair {
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

/// A divergence D of each row, and where it pulls.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// What each class adds to D, never under 0: `[rows, classes]`.
    pub(crate) values: Tensor<2>,
    /// q ∂D/∂q, up to a multiple of q that is the same for the whole row and has no part in the gradient:
    /// `[rows, classes]`.
    pub(crate) slopes: Tensor<2>,
    /// Whether the slopes of every row add up to 0, so that they are the gradient already.
    pub(crate) slopes_cancel: bool,
}

impl Terms {
    /// The derivative of Σ D by the logits whose softmax is `student`, and Σ D itself: `[rows, classes]`, `[1]`.
    pub(crate) fn finish(self, student: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        // Rows first: the CPU shares a sum of millions of terms among its threads in an order that changes.
        let value = self.values.sum_dim(1).sum();
        if self.slopes_cancel {
            return (self.slopes, value);
        }
        let sums = self.slopes.clone().sum_dim(1); // [rows, 1]
        (self.slopes - student * sums, value)
    }
}

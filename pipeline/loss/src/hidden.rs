//! How far hidden states are apart.

use burn::tensor::Tensor;
use limbeck_config::HiddenDistance;

/// Added to squared norms, as `torch.nn.CosineEmbeddingLoss` does: a state of zeros has a finite gradient.
const LEAST_SQUARE: f64 = 1e-12;

/// A distance of hidden states and its gradient, without autodiff.
#[derive(Clone, Debug)]
pub struct StateLoss {
    /// Sum over the rows: `[1]`.
    pub loss_sum: Tensor<1>,
    /// Derivative of `loss_sum` by the student's states: `[rows, hidden_size]`.
    pub state_gradient: Tensor<2>,
}

/// The distance between states, summed over the rows. A student that has the teacher's states has a loss and a gradient of
/// exactly 0.
///
/// # Shapes
/// - `student`, `teacher`: `[rows, hidden_size]`
///
/// # Units
/// None: these are no nats.
pub fn hidden_distance(kind: HiddenDistance, student: Tensor<2>, teacher: Tensor<2>) -> StateLoss {
    match kind {
        HiddenDistance::Cosine => cosine(student, teacher),
        HiddenDistance::Mse => mean_squared_error(student, teacher),
    }
}

/// `1 - cos`, as ½ ‖s/‖s‖ - t/‖t‖‖², in which nothing cancels where both are near (DistilBERT, arXiv:1910.01108, section 3).
fn cosine(student: Tensor<2>, teacher: Tensor<2>) -> StateLoss {
    let norm = |states: &Tensor<2>| (states.clone().square().sum_dim(1) + LEAST_SQUARE).sqrt(); // [rows, 1]
    let student_norm = norm(&student);
    let teacher = teacher.clone() / norm(&teacher);
    let student = student / student_norm.clone();
    let difference = student.clone() - teacher;
    let loss = difference.clone().square().sum_dim(1) * 0.5; // [rows, 1]
    // -(t̂ - cos · ŝ) / ‖s‖.
    let state_gradient = (difference - student * loss.clone()) / student_norm;
    StateLoss { loss_sum: loss.sum(), state_gradient }
}

/// Mean over the dimensions (TinyBERT, arXiv:1909.10351, equation 8).
fn mean_squared_error(student: Tensor<2>, teacher: Tensor<2>) -> StateLoss {
    let hidden_size = student.dims()[1] as f64;
    let difference = student - teacher;
    let loss_sum = difference.clone().square().sum() / hidden_size;
    StateLoss { loss_sum, state_gradient: difference * (2.0 / hidden_size) }
}

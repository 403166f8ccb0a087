//! KL(teacher ‖ student), the divergence of Hinton et al. 2015 (arXiv:1503.02531).

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use limbeck_kernels::{ChunkLoss, Implementation, forward_kl_rows, implementation_for};

/// `T² Σ p (ln p - ln q)` with `p = softmax(teacher / T)` and `q = softmax(student / T)`: zero for a perfect student, not
/// the teacher's entropy. Gradient by the student's logits: `T (q - p)`. The factor `T²` keeps the gradient's size
/// independent of the temperature.
///
/// # Shapes
/// - `student`, `teacher`: `[rows, vocab_size]`
pub fn forward_kl(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> ChunkLoss {
    match implementation_for(&student) {
        Implementation::Fused => forward_kl_rows(student, teacher, temperature as f32),
        Implementation::Composed => composed(student, teacher, temperature),
    }
}

fn composed(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> ChunkLoss {
    let student = log_softmax(student / temperature, 1);
    let teacher = log_softmax(teacher / temperature, 1);
    let teacher_probabilities = teacher.clone().exp();
    let loss = (teacher_probabilities.clone() * (teacher - student.clone())).sum();
    ChunkLoss {
        loss_sum: loss * temperature.powi(2),
        logit_gradient: (student.exp() - teacher_probabilities) * temperature,
    }
}

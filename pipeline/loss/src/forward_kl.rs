//! KL(teacher ‖ student), the divergence of Hinton et al. 2015 (arXiv:1503.02531).

use crate::log_domain::kl_terms;
use crate::pair::{Pair, Terms};

/// `Σ p ln(p / q)`: 0 for a perfect student, not the teacher's entropy. The gradient by the logits is `q - p`.
pub(crate) fn forward_kl(pair: Pair) -> Terms {
    let Pair { student, teacher, log_ratio } = pair;
    Terms {
        slopes: student.clone() - teacher.clone(),
        values: kl_terms(teacher, student, log_ratio),
        slopes_cancel: true,
    }
}

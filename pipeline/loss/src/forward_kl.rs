//! KL(teacher ‖ student), the divergence of Hinton et al. 2015 (arXiv:1503.02531).

use crate::log_domain::kl_terms;
use crate::pair::{Pair, Terms};
use crate::real::Real;

/// `Σ p ln(p / q)`: 0 for a perfect student, not the teacher's entropy. The gradient by the logits is `q - p`.
#[inline(always)]
pub(crate) fn forward_kl<N: Real>(pair: Pair<N>) -> Terms<N> {
    let Pair { student, teacher, log_ratio } = pair;
    Terms { slope: student.clone() - teacher.clone(), value: kl_terms(teacher, student, log_ratio) }
}

//! KL(teacher ‖ α teacher + (1 - α) student), from DistiLLM (Ko et al. 2024, arXiv:2402.03898).

use crate::log_domain::{Mixture, kl_terms};
use crate::pair::{Pair, Terms};
use crate::real::Real;

/// `Σ p ln(p / m)`, m = α p + (1 - α) q, 0 < α < 1: at most ln(1 / α), however wrong the student is. For α = 0 forward KL
/// takes its place.
///
/// DistiLLM leaves out the teacher's entropy, so that its value for a perfect student is not 0.
#[inline(always)]
pub(crate) fn skewed_forward_kl<N: Real>(pair: Pair<N>, alpha: f64) -> Terms<N> {
    let mixture = Mixture::of(&pair, alpha);
    let Pair { student, teacher, .. } = pair;
    // q ∂D/∂q = (1 - α) q (1 - p / m), and m - p = (1 - α)(q - p).
    let student_share = (-mixture.over_student).exp(); // q / m
    Terms {
        slope: (student - teacher.clone()) * student_share.times((1.0 - alpha).powi(2)),
        value: kl_terms(teacher, mixture.probability, mixture.over_teacher),
    }
}

//! KL(student ‖ (1 - α) teacher + α student), from DistiLLM (Ko et al. 2024, arXiv:2402.03898).

use crate::log_domain::{Mixture, kl_terms};
use crate::pair::{Pair, Terms};
use crate::real::Real;

/// `Σ q ln(q / m)`, m = (1 - α) p + α q, 0 < α < 1: at most ln(1 / α). For α = 0 reverse KL takes its place.
#[inline(always)]
pub(crate) fn skewed_reverse_kl<N: Real>(pair: Pair<N>, alpha: f64) -> Terms<N> {
    let mixture = Mixture::of(&pair, 1.0 - alpha);
    let Pair { student, teacher, .. } = pair;
    // q ∂D/∂q = q ln(q / m) + α q (1 - q / m), and m - q = (1 - α)(p - q).
    let student_share = (-mixture.over_student.clone()).exp(); // q / m
    let pull = (teacher - student.clone()) * student_share.times(alpha * (1.0 - alpha));
    Terms {
        slope: pull - student.clone() * mixture.over_student.clone(),
        value: kl_terms(student, mixture.probability, mixture.over_student),
    }
}

//! KL(student ‖ (1 - α) teacher + α student), from DistiLLM (Ko et al. 2024, arXiv:2402.03898).

use crate::log_domain::{Mixture, kl_terms};
use crate::pair::{Pair, Terms};

/// `Σ q ln(q / m)`, m = (1 - α) p + α q: at most ln(1 / α). The limit for α = 0, which is not for here, is reverse
/// KL.
pub(crate) fn skewed_reverse_kl(pair: Pair, alpha: f64) -> Terms {
    let mixture = Mixture::of(&pair, 1.0 - alpha);
    let Pair { student, teacher, .. } = pair;
    let student_share = mixture.over_student.clone().neg().exp(); // q / m
    // q ∂D/∂q = q ln(q / m) + α q (1 - q / m), and m - q = (1 - α)(p - q).
    let pull = (teacher - student.clone()) * student_share * (alpha * (1.0 - alpha));
    Terms {
        slopes: pull - student.clone() * mixture.over_student.clone(),
        values: kl_terms(student, mixture.probabilities, mixture.over_student),
        slopes_cancel: false,
    }
}

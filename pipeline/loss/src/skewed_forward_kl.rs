//! KL(teacher ‖ α teacher + (1 - α) student), from DistiLLM (Ko et al. 2024, arXiv:2402.03898).

use crate::log_domain::{Mixture, kl_terms};
use crate::pair::{Pair, Terms};

/// `Σ p ln(p / m)`, m = α p + (1 - α) q: at most ln(1 / α), however wrong the student is. The limit for α = 0, which is not for
/// here, is forward KL.
///
/// DistiLLM leaves out the teacher's entropy, so that its value for a perfect student is not 0.
pub(crate) fn skewed_forward_kl(pair: Pair, alpha: f64) -> Terms {
    let mixture = Mixture::of(&pair, alpha);
    let Pair { student, teacher, .. } = pair;
    // q ∂D/∂q = (1 - α) q (1 - p / m), and m - p = (1 - α)(q - p).
    let student_share = mixture.over_student.neg().exp(); // q / m
    Terms {
        slopes: (student - teacher.clone()) * student_share * (1.0 - alpha).powi(2),
        values: kl_terms(teacher, mixture.probabilities, mixture.over_teacher),
        slopes_cancel: false,
    }
}

//! The generalised Jensen-Shannon divergence of GKD (Agarwal et al. 2023, arXiv:2306.13649).

use crate::log_domain::{Mixture, kl_terms};
use crate::pair::{Pair, Terms};

/// `β KL(p ‖ m) + (1 - β) KL(q ‖ m)`, m = β p + (1 - β) q, for 0 < β < 1. By convention 0 is forward KL and 1
/// reverse KL.
///
/// As it stands, and as TRL, Liger and others have it, it goes to 0 at both ends and jumps there to a KL: 0.01 has a
/// hundredth of the gradient of 0. `normalised` divides by β (1 - β), whose limits at the ends are the two KLs, so that β
/// turns one into the other and the learning rate can stay.
pub(crate) fn jensen_shannon(pair: Pair, beta: f64, normalised: bool) -> Terms {
    let divisor = if normalised { beta * (1.0 - beta) } else { 1.0 };
    let (of_teacher, of_student) = (beta / divisor, (1.0 - beta) / divisor);
    let mixture = Mixture::of(&pair, beta);
    let Pair { student, teacher, .. } = pair;
    let from_teacher = kl_terms(teacher, mixture.probabilities.clone(), mixture.over_teacher);
    let from_student = kl_terms(student.clone(), mixture.probabilities, mixture.over_student.clone());
    Terms {
        slopes: student * mixture.over_student * -of_student,
        values: from_teacher * of_teacher + from_student * of_student,
        slopes_cancel: false,
    }
}

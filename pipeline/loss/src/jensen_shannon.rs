//! The generalised Jensen-Shannon divergence of GKD (Agarwal et al. 2023, arXiv:2306.13649).

use crate::log_domain::{Mixture, kl_terms};
use crate::pair::{Pair, Terms};
use crate::real::Real;

/// `β KL(p ‖ m) + (1 - β) KL(q ‖ m)`, m = β p + (1 - β) q, 0 < β < 1. For β = 0 forward KL takes its place, for β = 1
/// reverse KL.
///
/// As it stands, and as TRL, Liger and others have it, it goes to 0 at both ends and jumps there to a KL: 0.01 has a
/// hundredth of the gradient of 0. `normalised` divides by β (1 - β), whose limits at the ends are the two KLs, so that β
/// turns one into the other and the learning rate can stay.
#[inline(always)]
pub(crate) fn jensen_shannon<N: Real>(pair: Pair<N>, beta: f64, normalised: bool) -> Terms<N> {
    let divisor = if normalised { beta * (1.0 - beta) } else { 1.0 };
    let (of_teacher, of_student) = (beta / divisor, (1.0 - beta) / divisor);
    let mixture = Mixture::of(&pair, beta);
    let Pair { student, teacher, .. } = pair;
    let from_teacher = kl_terms(teacher, mixture.probability.clone(), mixture.over_teacher);
    let from_student = kl_terms(student.clone(), mixture.probability, mixture.over_student.clone());
    Terms {
        slope: student * mixture.over_student.times(-of_student),
        value: from_teacher.times(of_teacher) + from_student.times(of_student),
    }
}

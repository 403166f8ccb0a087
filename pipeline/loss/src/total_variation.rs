//! Total variation, the largest difference of probability over all events.

use crate::pair::{Pair, Terms};
use crate::real::Real;

/// Log-ratios that are rounding: a few units in the last place of logits near 10.
const ROUNDING: f64 = 2e-6;

/// `½ Σ |q - p|`, from 0 to 1.
///
/// The derivative jumps where both are equal. There it is taken as 0, from the middle of the jump, and where they are equal to
/// rounding too: the sign of that would push a perfect student about as hard as a bad one.
#[inline(always)]
pub(crate) fn total_variation<N: Real>(pair: Pair<N>) -> Terms<N> {
    let Pair { student, teacher, log_ratio } = pair;
    let difference = student.clone() - teacher;
    let sign = difference.clone().sign();
    let sign = log_ratio.abs().choose_below(ROUNDING, sign.clone().times(0.0), sign);
    Terms { slope: student * sign.times(0.5), value: difference.abs().times(0.5) }
}

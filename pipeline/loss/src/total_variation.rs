//! Total variation, the largest difference of probability over all events.

use crate::pair::{Pair, Terms};

/// Log-ratios that are rounding: a few units in the last place of logits near 10.
const ROUNDING: f64 = 2e-6;

/// `½ Σ |q - p|`, from 0 to 1.
///
/// The derivative jumps where both are equal. There it is taken as 0, from the middle of the jump, and where they are equal to
/// rounding too: the sign of that would push a perfect student about as hard as a bad one.
pub(crate) fn total_variation(pair: Pair) -> Terms {
    let Pair { student, teacher, log_ratio } = pair;
    let difference = student.clone() - teacher;
    let sign = difference.clone().sign().mask_fill(log_ratio.abs().lower_elem(ROUNDING), 0.0);
    Terms { slopes: student * sign * 0.5, values: difference.abs() * 0.5, slopes_cancel: false }
}

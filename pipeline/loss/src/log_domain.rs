//! What loses its digits when written as in the definitions.

use crate::pair::Pair;
use crate::real::Real;

/// The terms of KL(A ‖ B) for `log_ratio` = ln(b / a): each at least 0, and 0 where `log_ratio` is.
///
/// `Σ a ln(a / b)` has terms of both signs whose sum, for distributions that differ by 1e-4, is smaller than their
/// rounding. Adding Σ b - Σ a = 0 gives `Σ a (exp(x) - 1 - x)`, x = ln(b / a), a Bregman divergence without that trouble;
/// near 0 its power series.
#[inline(always)]
pub(crate) fn kl_terms<N: Real>(a: N, b: N, log_ratio: N) -> N {
    /// Where the series is used: what it leaves out is under 1e-8 there, and the rounding of the other form far under it.
    const NEAR: f64 = 0.125;
    let x = log_ratio;
    let far = b - a.clone() - a.clone() * x.clone();
    let squares = x.clone() * x.clone();
    let series = x.clone().times(1.0 / 120.0).plus(1.0 / 24.0) * x.clone();
    let series = (series.plus(1.0 / 6.0) * x).plus(0.5);
    squares.clone().choose_below(NEAR * NEAR, a * squares * series, far)
}

/// ln(1 - weight + weight eˣ): the logarithm of (1 - weight) A + weight B over A, for x = ln(B / A).
///
/// Exact to rounding where the mixture is nearly A, as it is for small weights, and for x of any size.
#[inline(always)]
fn log_blend<N: Real>(x: N, weight: f64) -> N {
    /// Under the 88 where the exponential overflows; the blend is `x + ln(weight)` long before.
    const LARGEST: f64 = 80.0;
    let capped = x.clone().at_most(LARGEST);
    let beyond = x - capped.clone();
    let ratio = capped.exp();
    let change = ratio.clone().plus(-1.0).times(weight);
    // A sum of what is over 0, where 1 + change would cancel.
    let logarithm = ratio.times(weight).plus(1.0 - weight).ln();
    change.clone().choose_below(-0.5, logarithm, change.ln_1p()) + beyond
}

/// m = weight · p + (1 - weight) · q, for weights between 0 and 1.
pub(crate) struct Mixture<N> {
    pub(crate) probability: N,
    /// ln(m / p).
    pub(crate) over_teacher: N,
    /// ln(m / q), at least ln(1 - weight).
    pub(crate) over_student: N,
}

impl<N: Real> Mixture<N> {
    #[inline(always)]
    pub(crate) fn of(pair: &Pair<N>, teacher_weight: f64) -> Self {
        let (student_weight, log_ratio) = (1.0 - teacher_weight, pair.log_ratio.clone());
        Self {
            probability: pair.teacher.clone().times(teacher_weight) + pair.student.clone().times(student_weight),
            over_teacher: log_blend(log_ratio.clone(), student_weight),
            over_student: log_blend(-log_ratio, teacher_weight),
        }
    }
}

//! The two functions that lose their digits when written as in the definitions.

use burn::tensor::Tensor;

use crate::pair::Pair;

/// The terms of KL(A ‖ B) for `log_ratio` = ln(b / a): each at least 0, and 0 where `log_ratio` is.
///
/// `Σ a ln(a / b)` has terms of both signs whose sum, for distributions that differ by 1e-4, is smaller than their
/// rounding. Adding Σ b - Σ a = 0 gives `Σ a (exp(x) - 1 - x)`, x = ln(b / a), a Bregman divergence without that trouble;
/// near 0 its power series.
///
/// # Shapes
/// - all: `[rows, classes]`
pub(crate) fn kl_terms(a: Tensor<2>, b: Tensor<2>, log_ratio: Tensor<2>) -> Tensor<2> {
    /// Where the series is used: what it leaves out is under 1e-8 there, and the rounding of the other form far under it.
    const NEAR: f64 = 0.125;
    let x = log_ratio;
    let far = b - a.clone() - a.clone() * x.clone();
    let squares = x.clone().square();
    let is_near = squares.clone().lower_elem(NEAR * NEAR);
    let series = ((x.clone() * (1.0 / 120.0) + 1.0 / 24.0) * x.clone() + 1.0 / 6.0) * x + 0.5;
    far.mask_where(is_near, a * squares * series)
}

/// ln(1 - weight + weight eˣ): the logarithm of (1 - weight) A + weight B over A, for x = ln(B / A).
///
/// Exact to rounding where the mixture is nearly A, as it is for small weights, and for x of any size.
pub(crate) fn log_blend(x: Tensor<2>, weight: f64) -> Tensor<2> {
    /// Under the 88 where the exponential overflows; the blend is `x + ln(weight)` long before.
    const LARGEST: f64 = 80.0;
    let capped = x.clone().clamp_max(LARGEST);
    let beyond = x - capped.clone();
    let ratio = capped.exp();
    let change = (ratio.clone() - 1.0) * weight;
    let is_small = change.clone().greater_elem(-0.5);
    // A sum of what is over 0, where 1 + change would cancel.
    let logarithm = (ratio * weight + (1.0 - weight)).log();
    logarithm.mask_where(is_small, change.log1p()) + beyond
}

/// The mixture M = weight · teacher + (1 - weight) · student.
pub(crate) struct Mixture {
    /// `[rows, classes]`.
    pub(crate) probabilities: Tensor<2>,
    /// ln(M / teacher): `[rows, classes]`.
    pub(crate) over_teacher: Tensor<2>,
    /// ln(M / student), at least ln(1 - weight): `[rows, classes]`.
    pub(crate) over_student: Tensor<2>,
}

impl Mixture {
    pub(crate) fn of(pair: &Pair, teacher_weight: f64) -> Self {
        let (student_weight, log_ratio) = (1.0 - teacher_weight, pair.log_ratio.clone());
        Self {
            probabilities: pair.teacher.clone() * teacher_weight + pair.student.clone() * student_weight,
            over_teacher: log_blend(log_ratio.clone(), student_weight),
            over_student: log_blend(log_ratio.neg(), teacher_weight),
        }
    }
}

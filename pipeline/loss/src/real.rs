//! Numbers that a divergence is written in: a tensor of them, or one in a register.
//!
//! Each divergence stands once, and is used twice: on tensors, on every device and in every precision, and on the CPU inside
//! the loop over a row of 32-bit floats ([`limbeck_kernels::divergence_rows`]).

use std::ops::{Add, Mul, Neg, Sub};

use burn::tensor::Tensor;

/// Arithmetic by element.
pub(crate) trait Real:
    Clone + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self>
{
    /// `self * factor`.
    fn times(self, factor: f64) -> Self;

    /// `self + term`.
    fn plus(self, term: f64) -> Self;

    /// `e` to the power of it.
    fn exp(self) -> Self;

    /// The natural logarithm, of what is over 0.
    fn ln(self) -> Self;

    /// `ln(1 + self)`, exact to rounding near 0, of what is over -1/2.
    fn ln_1p(self) -> Self;

    fn abs(self) -> Self;

    /// -1, 0 or 1.
    fn sign(self) -> Self;

    fn at_most(self, bound: f64) -> Self;

    /// `below` where this is under `bound`, else `otherwise`; both are computed.
    fn choose_below(self, bound: f64, below: Self, otherwise: Self) -> Self;
}

impl Real for Tensor<2> {
    fn times(self, factor: f64) -> Self {
        self * factor
    }

    fn plus(self, term: f64) -> Self {
        self + term
    }

    fn exp(self) -> Self {
        Tensor::exp(self)
    }

    fn ln(self) -> Self {
        self.log()
    }

    fn ln_1p(self) -> Self {
        self.log1p()
    }

    fn abs(self) -> Self {
        Tensor::abs(self)
    }

    fn sign(self) -> Self {
        Tensor::sign(self)
    }

    fn at_most(self, bound: f64) -> Self {
        self.clamp_max(bound)
    }

    fn choose_below(self, bound: f64, below: Self, otherwise: Self) -> Self {
        otherwise.mask_where(self.lower_elem(bound), below)
    }
}

/// Without calls and branches, so that loops of it become vector instructions.
impl Real for f32 {
    #[inline(always)]
    fn times(self, factor: f64) -> Self {
        self * factor as f32
    }

    #[inline(always)]
    fn plus(self, term: f64) -> Self {
        self + term as f32
    }

    #[inline(always)]
    fn exp(self) -> Self {
        limbeck_kernels::exp(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        limbeck_kernels::ln(self)
    }

    /// The error of rounding 1 + x is taken out again by the factor (Hewlett-Packard 1982; Goldberg 1991, theorem 4).
    #[inline(always)]
    fn ln_1p(self) -> Self {
        let rounded = 1.0 + self;
        let corrected = limbeck_kernels::ln(rounded) * (self / (rounded - 1.0));
        if rounded == 1.0 { self } else { corrected }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }

    #[inline(always)]
    fn sign(self) -> Self {
        let sign = if self > 0.0 { 1.0 } else { -1.0 };
        if self == 0.0 { 0.0 } else { sign }
    }

    #[inline(always)]
    fn at_most(self, bound: f64) -> Self {
        let bound = bound as f32;
        if self > bound { bound } else { self }
    }

    #[inline(always)]
    fn choose_below(self, bound: f64, below: Self, otherwise: Self) -> Self {
        if self < bound as f32 { below } else { otherwise }
    }
}

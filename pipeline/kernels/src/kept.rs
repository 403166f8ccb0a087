//! What an operator keeps for its backward pass: at 16 bits where its products round to them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Shape;
use burn_flex::FlexTensor;
use half::bf16;
use rayon::prelude::*;

use crate::flex::{shaped, unwritten, unwritten_halves, values};
use crate::gemm::{Precision, rounded_half};
use crate::level::vectorized;

/// Values that a task rounds.
const VALUES_PER_TASK: usize = 1 << 14;

/// A contiguous tensor.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// As it was, shared.
    Fp32(FlexTensor),
    /// A copy in half the memory.
    Bf16(Shape, Arc<Vec<bf16>>),
}

impl Kept {
    /// Nothing rounded yet.
    pub(crate) fn new(tensor: &FlexTensor) -> Self {
        Self::Fp32(tensor.to_contiguous())
    }

    pub(crate) fn rounded(self, precision: Precision) -> Self {
        match (self, precision) {
            (Self::Fp32(tensor), Precision::Bf16) => {
                Self::Bf16(tensor.layout().shape().clone(), Arc::new(rounded(values(&tensor))))
            }
            (kept, _) => kept,
        }
    }

    pub(crate) fn shape(&self) -> &Shape {
        match self {
            Self::Fp32(tensor) => tensor.layout().shape(),
            Self::Bf16(shape, _) => shape,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shape().num_elements()
    }

    pub(crate) fn last_dimension(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    /// A part of the values.
    #[inline(always)]
    pub(crate) fn part(&self, range: Range<usize>) -> Cow<'_, [f32]> {
        match self {
            Self::Fp32(tensor) => Cow::Borrowed(&values(tensor)[range]),
            Self::Bf16(_, halves) => {
                let mut part = unwritten(range.len());
                widen(&halves[range], &mut part);
                Cow::Owned(part)
            }
        }
    }

    /// The tensor again.
    pub(crate) fn tensor(&self) -> FlexTensor {
        match self {
            Self::Fp32(tensor) => tensor.clone(),
            Self::Bf16(shape, halves) => {
                let mut values = unwritten(halves.len());
                let tasks = values.par_chunks_mut(VALUES_PER_TASK).zip(halves.par_chunks(VALUES_PER_TASK));
                tasks.for_each(|(values, halves)| widen(halves, values));
                shaped(shape.clone(), values)
            }
        }
    }
}

fn rounded(values: &[f32]) -> Vec<bf16> {
    let mut halves = unwritten_halves(values.len());
    let tasks = halves.par_chunks_mut(VALUES_PER_TASK).zip(values.par_chunks(VALUES_PER_TASK));
    tasks.for_each(|(halves, values)| {
        vectorized(
            #[inline(always)]
            || halves.iter_mut().zip(values).for_each(|(half, value)| *half = rounded_half(*value)),
        )
    });
    halves
}

fn widen(halves: &[bf16], values: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            for (value, half) in values.iter_mut().zip(halves) {
                *value = f32::from_bits(u32::from(half.to_bits()) << 16);
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_as_the_library_does_and_once() {
        let special = [0.0, -0.0, 1.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 1.003_906_2, 1.011_718_8];
        let drawn =
            (0..40_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761))).filter(|value| !value.is_nan());
        let all: Vec<f32> = special.into_iter().chain(drawn).collect();
        let tensor = shaped([all.len()].into(), all.clone());
        let kept = Kept::new(&tensor).rounded(Precision::Bf16);
        let expected: Vec<u32> = all.iter().map(|value| bf16::from_f32(*value).to_f32().to_bits()).collect();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(values(&kept.tensor())), expected);
        assert_eq!(bits(&kept.part(5..77)), expected[5..77]);
        let again = Kept::new(&kept.tensor()).rounded(Precision::Bf16).tensor();
        assert_eq!(bits(values(&again)), expected);
        let unchanged = Kept::new(&tensor).rounded(Precision::Fp32);
        assert_eq!(bits(values(&unchanged.tensor())), bits(&all));
        assert_eq!((unchanged.len(), kept.len(), kept.last_dimension()), (all.len(), all.len(), all.len()));
    }

    #[test]
    fn what_is_not_a_number_stays_none() {
        // Its only set bit of the fraction is one that 16 bits do not have.
        let tensor = shaped([2].into(), vec![f32::from_bits(0x7f80_0001), f32::NAN]);
        assert!(values(&Kept::new(&tensor).rounded(Precision::Bf16).tensor()).iter().all(|value| value.is_nan()));
    }
}

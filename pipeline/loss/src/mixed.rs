//! A divergence from a teacher mixed with cross-entropy on the data.

use burn::tensor::{Int, Tensor};
use limbeck_kernels::{ChunkLoss, Implementation, LabelShare, implementation_for};

use crate::cross_entropy::cross_entropy;
use crate::divergence::DivergenceLoss;
use crate::sparse::SparseTargets;

/// `(1 - ce_weight) · divergence + ce_weight · cross-entropy`; the weights 0 and 1 give the one or the other exactly, and make
/// only that.
///
/// Cross-entropy is at temperature 1 and without the factor of the divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedLoss {
    /// From the teacher.
    pub divergence: DivergenceLoss,
    /// From 0 to 1.
    pub ce_weight: f64,
}

impl MixedLoss {
    /// The loss towards a teacher's logits and the labels.
    ///
    /// # Shapes
    /// - `student`, `teacher`: `[rows, vocab_size]`, finite
    /// - `labels`: `[rows]`
    pub fn dense(&self, student: Tensor<2>, teacher: Tensor<2>, labels: Tensor<1, Int>) -> ChunkLoss {
        let fused = implementation_for(&student) == Implementation::Fused;
        match self.ce_weight {
            0.0 => self.divergence.dense(student, teacher),
            1.0 => cross_entropy(student, labels),
            _ if fused => self.divergence.dense_rows(student, teacher, Some(self.share(labels))),
            _ => self.sum(self.divergence.dense(student.clone(), teacher), cross_entropy(student, labels)),
        }
    }

    /// The loss towards a sparse teacher and the labels.
    ///
    /// # Shapes
    /// - `student`: `[rows, vocab_size]`, finite
    /// - `targets`: as many rows
    /// - `labels`: `[rows]`
    ///
    /// # Panics
    /// As [`DivergenceLoss::sparse`].
    pub fn sparse(&self, student: Tensor<2>, targets: &SparseTargets, labels: Tensor<1, Int>) -> ChunkLoss {
        let fused = implementation_for(&student) == Implementation::Fused && self.divergence.is_forward_kl();
        match self.ce_weight {
            0.0 => self.divergence.sparse(student, targets),
            1.0 => cross_entropy(student, labels),
            _ if fused => self.divergence.sparse_rows(student, targets, Some(self.share(labels))),
            _ => self.sum(self.divergence.sparse(student.clone(), targets), cross_entropy(student, labels)),
        }
    }

    fn share(&self, labels: Tensor<1, Int>) -> LabelShare {
        LabelShare { weight: self.ce_weight, targets: labels }
    }

    fn sum(&self, divergence: ChunkLoss, cross_entropy: ChunkLoss) -> ChunkLoss {
        let rest = 1.0 - self.ce_weight;
        ChunkLoss {
            loss_sum: divergence.loss_sum * rest + cross_entropy.loss_sum * self.ce_weight,
            logit_gradient: divergence.logit_gradient * rest + cross_entropy.logit_gradient * self.ce_weight,
        }
    }
}

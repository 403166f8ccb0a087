//! From logits to a divergence: which one, at which temperature, from a dense or a sparse teacher.

use burn::tensor::Tensor;
use limbeck_config::{DistillSection, Divergence};
use limbeck_kernels::{
    ChunkLoss, Implementation, LabelShare, Softening, divergence_rows, implementation_for, sparse_forward_kl_rows,
};

use crate::coarse::Coarse;
use crate::error::LossError;
use crate::forward_kl::forward_kl;
use crate::jensen_shannon::jensen_shannon;
use crate::pair::{Pair, Terms};
use crate::reverse_kl::reverse_kl;
use crate::skewed_forward_kl::skewed_forward_kl;
use crate::skewed_reverse_kl::skewed_reverse_kl;
use crate::sparse::SparseTargets;
use crate::total_variation::total_variation;

/// The row loss between a student and a teacher.
///
/// With q = softmax(student / T) and p = softmax(teacher / T), D(p, q) is summed over the rows, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DivergenceLoss {
    /// D.
    pub divergence: Divergence,
    /// T, over 0.
    pub temperature: f64,
    /// Whether D is multiplied by T².
    ///
    /// The gradient of a KL by the logits is `(q - p) / T`, and q - p shrinks as 1 / T besides: the factor keeps the
    /// gradient's size at high temperatures (Hinton et al. 2015). DistillKit and ModelOpt have it; TRL, Liger and axolotl
    /// do not. Total variation shrinks as 1 / T alone, so that the factor is T too many there.
    pub scale_by_temperature_squared: bool,
}

impl From<&DistillSection> for DivergenceLoss {
    fn from(section: &DistillSection) -> Self {
        Self {
            divergence: section.divergence,
            temperature: section.temperature,
            scale_by_temperature_squared: section.scale_by_temperature_squared,
        }
    }
}

impl DivergenceLoss {
    /// KL(p ‖ q) at temperature 1.
    pub fn forward_kl() -> Self {
        Self { divergence: Divergence::ForwardKl {}, temperature: 1.0, scale_by_temperature_squared: true }
    }

    /// The loss towards a teacher's logits.
    ///
    /// # Shapes
    /// - `student`, `teacher`: `[rows, vocab_size]`, finite
    pub fn dense(&self, student: Tensor<2>, teacher: Tensor<2>) -> ChunkLoss {
        match implementation_for(&student) {
            Implementation::Fused => self.dense_rows(student, teacher, None),
            Implementation::Composed => self.composed(student, teacher),
        }
    }

    /// From Burn's operations.
    pub(crate) fn composed(&self, student: Tensor<2>, teacher: Tensor<2>) -> ChunkLoss {
        let (loss_sum, gradient) = self.between(self.heated(student), self.heated(teacher));
        ChunkLoss { loss_sum, logit_gradient: gradient }
    }

    /// [`dense`](Self::dense) on the CPU, with cross-entropy mixed in.
    pub(crate) fn dense_rows(&self, student: Tensor<2>, teacher: Tensor<2>, labels: Option<LabelShare>) -> ChunkLoss {
        let softening = self.softening();
        // The definition belongs into the loop as it stands: a call would keep it from becoming vector instructions.
        macro_rules! rows {
            ($slopes_cancel:literal, $pair:ident => $terms:expr) => {
                divergence_rows(
                    student,
                    teacher,
                    softening,
                    $slopes_cancel,
                    labels,
                    #[inline(always)]
                    |student, teacher, log_ratio| {
                        let $pair = Pair { student, teacher, log_ratio };
                        let Terms { value, slope } = $terms;
                        (value, slope)
                    },
                )
            };
        }
        match reduced(self.divergence) {
            Divergence::ForwardKl {} => rows!(true, pair => forward_kl(pair)),
            Divergence::ReverseKl {} => rows!(false, pair => reverse_kl(pair)),
            Divergence::SkewedForwardKl { alpha } => rows!(false, pair => skewed_forward_kl(pair, alpha)),
            Divergence::SkewedReverseKl { alpha } => rows!(false, pair => skewed_reverse_kl(pair, alpha)),
            Divergence::JensenShannon { beta, normalised } => {
                rows!(false, pair => jensen_shannon(pair, beta, normalised))
            }
            Divergence::TotalVariation {} => rows!(false, pair => total_variation(pair)),
        }
    }

    /// The loss towards a teacher of whom each row has a few classes: the divergence of the coarsened distributions, in
    /// which all other ids of a row are one class together.
    ///
    /// It is at most that of [`dense`](Self::dense), 0 where both agree on the listed ids and on the mass of the
    /// rest, and its gradient reaches every id. Targets without a ghost have no mass on the rest: see
    /// [`for_samples`](Self::for_samples). The targets are those of this temperature; only the student's logits are
    /// divided by it.
    ///
    /// # Shapes
    /// - `student`: `[rows, vocab_size]`, finite
    /// - `targets`: as many rows
    ///
    /// # Panics
    /// For targets without a ghost unless [`for_samples`](Self::for_samples) allows them.
    pub fn sparse(&self, student: Tensor<2>, targets: &SparseTargets) -> ChunkLoss {
        assert!(targets.has_ghost() || self.for_samples().is_ok(), "samples met another divergence than forward KL");
        if implementation_for(&student) == Implementation::Fused && self.is_forward_kl() {
            return self.sparse_rows(student, targets, None);
        }
        let targets = targets.padded(&student);
        let coarse = Coarse::of(self.heated(student), &targets);
        let (loss_sum, gradient) = self.between(coarse.logits.clone(), targets.logits());
        ChunkLoss { loss_sum, logit_gradient: coarse.logit_gradient(gradient) }
    }

    /// [`sparse`](Self::sparse) on the CPU for forward KL, with cross-entropy mixed in.
    pub(crate) fn sparse_rows(
        &self,
        student: Tensor<2>,
        targets: &SparseTargets,
        labels: Option<LabelShare>,
    ) -> ChunkLoss {
        sparse_forward_kl_rows(student, targets.distributions(), self.softening(), labels)
    }

    pub(crate) fn is_forward_kl(&self) -> bool {
        reduced(self.divergence) == Divergence::ForwardKl {}
    }

    /// Whether counts of ids that were drawn from the teacher can stand for it.
    ///
    /// Forward KL is linear in the teacher's probabilities but for its entropy, so the mean of its gradient over the draws
    /// is the gradient towards the teacher itself. No other divergence is: it would learn something else, silently.
    ///
    /// # Errors
    /// [`LossError::Samples`] for every divergence that is not forward KL.
    pub fn for_samples(&self) -> Result<(), LossError> {
        match self.divergence {
            Divergence::ForwardKl {} => Ok(()),
            other => Err(LossError::Samples { divergence: other.name() }),
        }
    }

    fn heated(&self, logits: Tensor<2>) -> Tensor<2> {
        if self.temperature == 1.0 { logits } else { logits / self.temperature }
    }

    /// Value and gradient by the student's logits before [`heated`](Self::heated): `[1]`, `[rows, classes]`.
    fn between(&self, student: Tensor<2>, teacher: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let pair = Pair::of_logits(student, teacher);
        let probabilities = pair.student.clone();
        let (value, gradient) = terms(self.divergence, pair).finish(probabilities, self.is_forward_kl());
        if self.temperature == 1.0 {
            return (value, gradient);
        }
        (value * self.scale(), gradient * (self.scale() / self.temperature))
    }

    fn softening(&self) -> Softening {
        Softening { temperature: self.temperature, scale: self.scale() }
    }

    fn scale(&self) -> f64 {
        if self.scale_by_temperature_squared { self.temperature.powi(2) } else { 1.0 }
    }
}

/// The divergence that the configuration names.
pub(crate) fn terms(kind: Divergence, pair: Pair<Tensor<2>>) -> Terms<Tensor<2>> {
    match reduced(kind) {
        Divergence::ForwardKl {} => forward_kl(pair),
        Divergence::ReverseKl {} => reverse_kl(pair),
        Divergence::SkewedForwardKl { alpha } => skewed_forward_kl(pair, alpha),
        Divergence::SkewedReverseKl { alpha } => skewed_reverse_kl(pair, alpha),
        Divergence::JensenShannon { beta, normalised } => jensen_shannon(pair, beta, normalised),
        Divergence::TotalVariation {} => total_variation(pair),
    }
}

/// No skew and the ends of Jensen-Shannon are KLs, to the last bit.
fn reduced(kind: Divergence) -> Divergence {
    match kind {
        Divergence::SkewedForwardKl { alpha: 0.0 } | Divergence::JensenShannon { beta: 0.0, .. } => {
            Divergence::ForwardKl {}
        }
        Divergence::SkewedReverseKl { alpha: 0.0 } | Divergence::JensenShannon { beta: 1.0, .. } => {
            Divergence::ReverseKl {}
        }
        other => other,
    }
}

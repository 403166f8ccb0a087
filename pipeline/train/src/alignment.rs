//! Hidden states of a student beside its teacher's: a term of the loss with parameters of its own.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use limbeck_config::HiddenDistance;
use limbeck_kernels::{HeadLoss, Precision, linear};
use limbeck_loss::{StateLoss, hidden_distance};
use limbeck_model::Linear;

use crate::objective::TargetRows;

/// For some pairs of blocks, how far the student's output is from the teacher's, the student's being mapped to the teacher's
/// size by a matrix that is learned with the student and belongs to neither model.
///
/// `weight · mean over the pairs of Σ distance(P · student, teacher)`, summed over the targets as every loss is.
///
/// # Source
/// TinyBERT (Jiao et al. 2020, arXiv:1909.10351, equation 8), which has one matrix for all blocks; DistilBERT (Sanh et al. 2019,
/// arXiv:1910.01108), whose sizes are equal and which has none.
#[derive(Module, Debug)]
pub struct HiddenAlignment {
    /// One a pair, `[teacher's hidden size, student's]`.
    projections: Vec<Linear>,
    #[module(skip)]
    kind: HiddenDistance,
    #[module(skip)]
    weight: f64,
    /// Student's and teacher's block.
    #[module(skip)]
    pairs: Vec<(usize, usize)>,
}

/// Outputs of blocks at the target rows, `[target rows, hidden_size]` each.
pub(crate) type States = BTreeMap<usize, Tensor<2>>;

impl HiddenAlignment {
    /// An alignment whose maps are the identity where the sizes are equal, as they are for a student that was cut in depth
    /// alone, else normal with a standard deviation of `1 / √student_size`, which keeps a state's length: a function of `seed`.
    pub fn new(
        (kind, weight): (HiddenDistance, f64),
        pairs: Vec<(usize, usize)>,
        (student_size, teacher_size): (usize, usize),
        seed: u64,
        device: &Device,
    ) -> Self {
        let projection = |index: usize| match student_size == teacher_size {
            true => Linear::identity(student_size, device),
            false => {
                let deviation = (student_size as f64).sqrt().recip();
                Linear::normal(student_size, teacher_size, deviation, (seed, &format!("projections.{index}")), device)
            }
        };
        Self { projections: (0..pairs.len()).map(projection).collect(), kind, weight, pairs }
    }

    /// Blocks of the student whose outputs are compared.
    pub(crate) fn student_blocks(&self) -> Vec<usize> {
        self.pairs.iter().map(|(student, _)| *student).collect()
    }

    /// Blocks of the teacher.
    pub(crate) fn teacher_blocks(&self) -> Vec<usize> {
        self.pairs.iter().map(|(_, teacher)| *teacher).collect()
    }

    /// The loss with the term.
    pub(crate) fn added_to(
        &self,
        head: HeadLoss,
        student: &States,
        teacher: &States,
        precision: Precision,
    ) -> HeadLoss {
        let share = self.weight / self.pairs.len() as f64;
        self.pairs.iter().zip(&self.projections).fold(head, |sum, ((of_student, of_teacher), projection)| {
            let projected = linear(student[of_student].clone(), projection.weight.val(), precision);
            let teacher = teacher[of_teacher].clone();
            let StateLoss { loss_sum, state_gradient } = hidden_distance(self.kind, projected.clone().inner(), teacher);
            HeadLoss {
                loss_sum: sum.loss_sum + loss_sum * share,
                surrogate: sum.surrogate + (projected * (state_gradient * share)).sum(),
            }
        })
    }
}

/// The target rows of the last hidden states that `hidden` makes, and of what `blocks` give meanwhile.
pub(crate) fn with_states(
    rows: &TargetRows,
    blocks: &[usize],
    hidden: impl FnOnce(&mut dyn FnMut(usize, &Tensor<3>)) -> Tensor<2>,
) -> (Tensor<2>, States) {
    let mut states = States::new();
    let hidden = hidden(&mut |block, stream| {
        if blocks.contains(&block) {
            states.insert(block, rows.select(stream.clone().flatten(0, 1)));
        }
    });
    (rows.select(hidden), states)
}

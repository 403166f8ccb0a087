//! What a training step minimises.

use burn::tensor::{Device, Int, Tensor, TensorData};
use limbeck_data::Batch;
use limbeck_kernels::{HeadLoss, loss_head};
use limbeck_loss::{MixedLoss, cross_entropy};
use limbeck_model::Transformer;

use crate::alignment::{HiddenAlignment, with_states};
use crate::error::TrainError;
use crate::recompute::Tape;
use crate::teacher::Teacher;

/// What is trained.
#[derive(Clone, Copy)]
pub struct Learner<'a> {
    /// Its parameters are on a device with autodiff. For its hidden states see [`Learner::hidden`].
    pub model: &'a Transformer,
    /// What aligns its hidden states with those of the teacher of [`Distillation`], which alone looks at it.
    pub alignment: Option<&'a HiddenAlignment>,
    /// Where the backward pass computes blocks again.
    tape: Option<&'a Tape<'a>>,
}

impl<'a> Learner<'a> {
    /// A learner whose forward pass is kept.
    pub fn new(model: &'a Transformer, alignment: Option<&'a HiddenAlignment>) -> Self {
        Self { model, alignment, tape: None }
    }

    /// The same with a forward pass that `tape` records.
    pub(crate) fn on_tape(self, tape: Option<&'a Tape<'a>>) -> Self {
        Self { tape, ..self }
    }

    /// The last hidden states of a batch, normed: what the loss head multiplies with the output weights. Those of the model
    /// itself would be kept whatever `train.recompute` says.
    ///
    /// # Shapes
    /// `[rows * sequence_length, hidden_size]`
    pub fn hidden(&self, batch: &Batch) -> Tensor<2> {
        self.hidden_with(batch, |_, _| ())
    }

    /// [`Learner::hidden`]; `each` sees what every block gives, `[rows, sequence_length, hidden_size]`.
    pub(crate) fn hidden_with(&self, batch: &Batch, each: impl FnMut(usize, &Tensor<3>)) -> Tensor<2> {
        match self.tape {
            Some(tape) => tape.hidden(batch, each),
            None => self.model.hidden_with(&batch.inputs, &batch.positions, batch.sequence_length, each),
        }
    }
}

impl<'a> From<&'a Transformer> for Learner<'a> {
    fn from(model: &'a Transformer) -> Self {
        Self::new(model, None)
    }
}

/// The loss of a batch, summed over its target tokens: in nats, but for what an alignment adds.
pub trait Objective: Sync {
    /// The loss of `learner`.
    ///
    /// # Errors
    /// If what the loss is towards cannot be had, such as a teacher's logits on a damaged disk.
    fn loss(&self, learner: Learner<'_>, batch: &Batch) -> Result<HeadLoss, TrainError>;

    /// Says that the loss of `batch` will be asked for, after those that were announced before it: what it takes besides the
    /// model may be fetched meanwhile. The loss is the same without.
    fn announce(&self, _batch: &Batch) {}
}

/// Cross-entropy of the next token: `pretrain`, `sft`, and the control of `distill`.
#[derive(Debug)]
pub struct NextToken;

impl Objective for NextToken {
    fn loss(&self, learner: Learner<'_>, batch: &Batch) -> Result<HeadLoss, TrainError> {
        Ok(next_token_loss(learner, batch))
    }
}

/// The loss of [`NextToken`].
pub fn next_token_loss(learner: Learner<'_>, batch: &Batch) -> HeadLoss {
    let model = learner.model;
    let rows = TargetRows::of(batch, &model.device());
    let hidden = rows.select(learner.hidden(batch));
    loss_head(hidden, model.output_weight(), model.precision(), |logits, chunk| {
        cross_entropy(logits, rows.targets.clone().narrow(0, chunk.start, chunk.len()))
    })
}

/// A divergence from a teacher's distribution, mixed with cross-entropy.
#[derive(Debug)]
pub struct Distillation {
    /// Whose distribution.
    pub teacher: Teacher,
    /// The divergence and the share of cross-entropy.
    pub loss: MixedLoss,
}

impl Objective for Distillation {
    fn loss(&self, learner: Learner<'_>, batch: &Batch) -> Result<HeadLoss, TrainError> {
        let Learner { model, alignment, .. } = learner;
        if self.loss.ce_weight == 1.0 && alignment.is_none() {
            return Ok(next_token_loss(learner, batch));
        }
        let device = model.device();
        let rows = TargetRows::of(batch, &device);
        // Rows that only pad one of the two vocabularies have no part in the loss.
        let vocab_size = model.config().vocab_size.min(self.teacher.vocab_size());
        let blocks = alignment.map(HiddenAlignment::teacher_blocks).unwrap_or_default();
        let (teacher, teacher_states) = self.teacher.rows(batch, &rows, vocab_size, &blocks, &device)?;
        let blocks = alignment.map(HiddenAlignment::student_blocks).unwrap_or_default();
        let (hidden, states) = with_states(&rows, &blocks, |each| learner.hidden_with(batch, each));
        let weight = match model.output_weight() {
            whole if whole.dims()[0] == vocab_size => whole,
            padded => padded.narrow(0, 0, vocab_size),
        };
        let head = loss_head(hidden, weight, model.precision(), |logits, chunk| {
            let targets = rows.targets.clone().narrow(0, chunk.start, chunk.len());
            teacher.loss(&self.loss, logits, targets, chunk)
        });
        Ok(match alignment {
            Some(alignment) => alignment.added_to(head, &states, &teacher_states, model.precision()),
            None => head,
        })
    }

    fn announce(&self, batch: &Batch) {
        if let Teacher::Cached(logits) = &self.teacher
            && self.loss.ce_weight < 1.0
            && batch.target_tokens() > 0
        {
            logits.announce(batch);
        }
    }
}

/// The rows of a batch that have a target: the others never reach the loss head.
pub(crate) struct TargetRows {
    /// `None` where every row has one.
    rows: Option<Tensor<1, Int>>,
    /// `[target rows]`.
    pub(crate) targets: Tensor<1, Int>,
}

impl TargetRows {
    pub(crate) fn of(batch: &Batch, device: &Device) -> Self {
        let ints = |values: Vec<i32>| {
            let shape = [values.len()];
            Tensor::<1, Int>::from_data(TensorData::new(values, shape), device)
        };
        let with_target = || batch.loss_mask.iter().enumerate().filter(|(_, counts)| **counts).map(|(row, _)| row);
        let targets = ints(with_target().map(|row| batch.targets[row] as i32).collect());
        let all = batch.target_tokens() == batch.loss_mask.len();
        Self { rows: (!all).then(|| ints(with_target().map(|row| row as i32).collect())), targets }
    }

    /// `[tokens, hidden_size]` to `[target rows, hidden_size]`.
    pub(crate) fn select(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.rows {
            Some(rows) => hidden.select(0, rows.clone()),
            None => hidden,
        }
    }
}

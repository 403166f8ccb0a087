//! Whose distribution a student learns: a model that runs beside it, or one whose logits were captured.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use limbeck_data::Batch;
use limbeck_kernels::{Precision, linear};
use limbeck_logits::{Cache, DenseTargets};
use limbeck_loss::{ChunkLoss, MixedLoss, SparseTargets};
use limbeck_model::Transformer;

use crate::alignment::{States, with_states};
use crate::error::TrainError;
use crate::objective::TargetRows;
use crate::read_ahead::{HostTargets, ReadAhead};

/// A teacher.
#[derive(Debug)]
pub enum Teacher {
    /// A model without autodiff.
    Online(Box<Transformer>),
    /// Its logits on disk.
    Cached(Box<ReadAhead>),
}

impl Teacher {
    /// The teacher whose logits are in a cache.
    pub fn cached(cache: Cache) -> Self {
        Self::Cached(Box::new(ReadAhead::new(cache)))
    }

    /// Ids that it has a distribution over.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Online(model) => model.config().vocab_size,
            Self::Cached(logits) => logits.cache().header().identity.vocab_size as usize,
        }
    }

    /// What it says of the targets of a batch, over the first `vocab_size` ids, and what `blocks` of it give, which only a
    /// teacher that runs can say.
    pub(crate) fn rows(
        &self,
        batch: &Batch,
        targets: &TargetRows,
        vocab_size: usize,
        blocks: &[usize],
        device: &Device,
    ) -> Result<(TeacherRows, States), TrainError> {
        match self {
            Self::Online(model) => {
                let (hidden, states) = with_states(targets, blocks, |each| {
                    model.hidden_with(&batch.inputs, &batch.positions, batch.sequence_length, each)
                });
                let weight = model.output_weight().narrow(0, 0, vocab_size);
                let precision = model.precision();
                Ok((TeacherRows::Hidden(Box::new(HiddenRows { hidden, weight, precision })), states))
            }
            Self::Cached(logits) => {
                assert!(blocks.is_empty(), "the config has captured logits and an alignment of hidden states");
                Ok((cached_rows(logits.read(batch)?, vocab_size, device)?, States::new()))
            }
        }
    }
}

fn cached_rows(targets: HostTargets, vocab_size: usize, device: &Device) -> Result<TeacherRows, TrainError> {
    match targets {
        HostTargets::Dense(DenseTargets { logits, vocab_size: width }) => {
            Ok(TeacherRows::Logits { logits, width, vocab_size, device: device.clone() })
        }
        HostTargets::Sparse(targets) => {
            targets.check_vocabulary(vocab_size)?;
            Ok(TeacherRows::Sparse(targets))
        }
    }
}

/// What a teacher says of the target rows of one batch.
pub(crate) enum TeacherRows {
    /// The logits of a chunk are made when it is its turn.
    Hidden(Box<HiddenRows>),
    /// `[target rows, width]` on the host, of which the first `vocab_size` columns count.
    Logits {
        logits: Vec<f32>,
        width: usize,
        vocab_size: usize,
        device: Device,
    },
    Sparse(SparseTargets),
}

/// What logits are made of.
pub(crate) struct HiddenRows {
    /// `[target rows, hidden_size]`
    hidden: Tensor<2>,
    /// `[vocab_size, hidden_size]`
    weight: Tensor<2>,
    precision: Precision,
}

impl TeacherRows {
    /// The loss of a chunk of the student's rows.
    ///
    /// # Shapes
    /// - `student`: `[chunk, vocab_size]`
    /// - `labels`: `[chunk]`
    pub(crate) fn loss(
        &self,
        loss: &MixedLoss,
        student: Tensor<2>,
        labels: Tensor<1, Int>,
        chunk: Range<usize>,
    ) -> ChunkLoss {
        match self {
            Self::Hidden(rows) => {
                let hidden = rows.hidden.clone().narrow(0, chunk.start, chunk.len());
                loss.dense(student, linear(hidden, rows.weight.clone(), rows.precision), labels)
            }
            Self::Logits { logits, width, vocab_size, device } => {
                let values = logits[chunk.start * width..chunk.end * width].to_vec();
                let logits = Tensor::<2>::from_data(TensorData::new(values, [chunk.len(), *width]), device);
                loss.dense(student, logits.narrow(1, 0, *vocab_size), labels)
            }
            Self::Sparse(targets) => loss.sparse(student, &targets.narrow(chunk), labels),
        }
    }
}

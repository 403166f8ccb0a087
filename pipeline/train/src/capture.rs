//! Running a teacher over data once, to keep its logits.

use burn::tensor::Tensor;
use limbeck_data::{Batch, Mixture};
use limbeck_kernels::loss_head_value;
use limbeck_logits::{Capture, LogitsError, PartReport, PartWriter, SegmentLogits};
use limbeck_model::{HostTensor, Transformer};

use crate::error::TrainError;
use crate::objective::TargetRows;
use crate::read_ahead::segment_key;

/// What a capture does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CaptureEvent {
    /// A forward pass is done.
    Batch {
        /// Packed rows of it.
        rows: u64,
        /// Targets in them.
        targets: u64,
    },
    /// A part is on the device.
    Part(PartReport),
}

/// How a capture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureEnding {
    /// Every part of the shard is there.
    Complete,
    /// A stop was asked for; complete parts are kept.
    Interrupted,
}

/// Captures what is pending, part after part. `stop` is asked after each batch; `on_event` is told of each batch and part.
///
/// The batches are `data`'s fixed rows, `rows_per_batch` at a time, and the logits are made in the chunks in which the loss
/// head makes them: in those shapes a training with the teacher beside it computes the same bits.
///
/// # Errors
/// If the teacher's logits are not finite or a part cannot be written. Complete parts stay.
pub fn capture(
    teacher: &Transformer,
    data: &Mixture,
    capture: &mut Capture,
    stop: &dyn Fn() -> bool,
    on_event: &mut dyn FnMut(CaptureEvent),
) -> Result<CaptureEnding, TrainError> {
    for part in capture.pending() {
        let mut writer = capture.part(part);
        let rows = capture.header().part_rows(part);
        let rows_per_batch = capture.header().extent.rows_per_batch;
        let vocab_size = capture.header().identity.vocab_size as usize;
        for first in rows.clone().step_by(rows_per_batch as usize) {
            let batch = data.fixed_batch(first, rows_per_batch.min(rows.end - first) as usize);
            capture_batch(teacher, vocab_size, &batch, &mut writer)?;
            on_event(CaptureEvent::Batch { rows: batch.rows as u64, targets: batch.target_tokens() as u64 });
            if stop() {
                return Ok(CaptureEnding::Interrupted);
            }
        }
        on_event(CaptureEvent::Part(capture.finish(writer)?));
    }
    Ok(CaptureEnding::Complete)
}

/// Adds every segment of a batch to a part.
fn capture_batch(
    teacher: &Transformer,
    vocab_size: usize,
    batch: &Batch,
    part: &mut PartWriter,
) -> Result<(), TrainError> {
    let targets = TargetRows::of(batch, &teacher.device());
    let hidden = targets.select(teacher.hidden(&batch.inputs, &batch.positions, batch.sequence_length));
    let weight = teacher.output_weight().narrow(0, 0, vocab_size);
    let mut sorter = Sorter { batch, vocab_size, part, span: 0, logits: Vec::new(), outcome: Ok(()) };
    let device = teacher.device();
    loss_head_value(hidden, weight, teacher.precision(), |logits, _| {
        sorter.push(logits);
        Tensor::zeros([1], &device)
    });
    Ok(sorter.outcome?)
}

/// Gives chunks of logits to the segments that they are of.
struct Sorter<'a> {
    batch: &'a Batch,
    vocab_size: usize,
    part: &'a mut PartWriter,
    /// The segment that is next.
    span: usize,
    /// What has come and is not given yet.
    logits: Vec<f32>,
    outcome: Result<(), LogitsError>,
}

impl Sorter<'_> {
    /// # Shapes
    /// - `logits`: `[chunk, vocab_size]`
    fn push(&mut self, logits: Tensor<2>) {
        self.logits.extend(HostTensor::from_tensor(logits).values);
        while self.outcome.is_ok()
            && let Some(span) = self.batch.segments.get(self.span)
        {
            let first = span.row * self.batch.sequence_length + span.start;
            let counts = (0u32..).zip(&self.batch.loss_mask[first..first + span.length]);
            let positions: Vec<u32> = counts.filter(|(_, counts)| **counts).map(|(position, _)| position).collect();
            let values = positions.len() * self.vocab_size;
            let Some(logits) = self.logits.get(..values) else { return };
            let (key, length) = (segment_key(span), span.length as u32);
            self.outcome = self.part.push(&SegmentLogits { key, length, positions: &positions, logits });
            self.logits.drain(..values);
            self.span += 1;
        }
    }
}

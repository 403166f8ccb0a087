//! A teacher of whom only a few ids a row are known.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor, TensorData};
use limbeck_kernels::{NOTHING, SparseDistributions};

use crate::error::LossError;

/// ln of the smallest 32-bit float, in place of a ghost of -∞: a mass that underflowed when it was stored is small, not none.
const UNDERFLOWED: f32 = -103.28;

/// How far the probabilities of a row may be from 1 in all: they may have been stored as 16-bit logarithms.
const MASS_TOLERANCE: f32 = 0.02;

/// Rows of sparse distributions, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseRows {
    /// Row i has the entries `offsets[i]..offsets[i + 1]`: one more than there are rows, from 0.
    pub offsets: Vec<usize>,
    /// Each at most once a row.
    pub ids: Vec<u32>,
    /// ln of the probability of each entry.
    pub log_probabilities: Vec<f32>,
    /// ln of the probability of all other ids of each row together. Without it there is nothing on them: the entries are
    /// frequencies in a sample.
    pub ghost: Option<Vec<f32>>,
}

/// [`SparseRows`] that were checked, or some of them. The probabilities of a row are taken relative to their sum.
#[derive(Clone, Debug)]
pub struct SparseTargets {
    rows: Arc<SparseRows>,
    /// Which of them.
    range: Range<usize>,
    /// Entries of the longest row of all.
    longest: usize,
    vocab_size: usize,
}

/// [`SparseTargets`] on a device, padded to one length.
pub(crate) struct PaddedTargets {
    /// Padded with the row's first: `[rows, classes]`.
    pub(crate) ids: Tensor<2, Int>,
    /// Padded with [`NOTHING`]: `[rows, classes]`.
    log_probabilities: Tensor<2>,
    /// ln of the probability of the rest: `[rows, 1]`.
    ghost: Option<Tensor<2>>,
}

impl SparseTargets {
    /// Checks the rows.
    ///
    /// # Errors
    /// [`LossError::Sparse`] for a row without entries, whose ids repeat or are not under `vocab_size`, or whose
    /// probabilities are no finite logarithms that add up to 1; for lengths that do not fit together.
    pub fn new(mut rows: SparseRows, vocab_size: usize) -> Result<Self, LossError> {
        let longest = check(&rows, vocab_size)?;
        for ghost in rows.ghost.iter_mut().flatten() {
            *ghost = if *ghost == f32::NEG_INFINITY { UNDERFLOWED } else { *ghost };
        }
        let range = 0..row_count(&rows);
        Ok(Self { rows: Arc::new(rows), range, longest, vocab_size })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.range.len()
    }

    /// Checks them once more, for a smaller vocabulary than that for which they were made.
    ///
    /// # Errors
    /// [`LossError::Sparse`] for an id that is not under `vocab_size`.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<(), LossError> {
        if vocab_size < self.vocab_size { check(&self.rows, vocab_size).map(drop) } else { Ok(()) }
    }

    /// Whether there is mass on the ids that are not listed.
    pub fn has_ghost(&self) -> bool {
        self.rows.ghost.is_some()
    }

    /// Some of the rows, such as those of a chunk.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn narrow(&self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows(), "rows {rows:?} of {}", self.rows());
        let range = self.range.start + rows.start..self.range.start + rows.end;
        Self { range, ..self.clone() }
    }

    /// The rows where they are.
    pub(crate) fn distributions(&self) -> SparseDistributions<'_> {
        let SparseRows { offsets, ids, log_probabilities, ghost } = &*self.rows;
        SparseDistributions {
            offsets: &offsets[self.range.start..=self.range.end],
            ids,
            log_probabilities,
            ghost: ghost.as_ref().map(|ghost| &ghost[self.range.clone()]),
        }
    }

    /// The rows beside `student`, in its type.
    pub(crate) fn padded(&self, student: &Tensor<2>) -> PaddedTargets {
        let SparseDistributions { offsets, ids, log_probabilities, ghost } = self.distributions();
        let shape = [self.rows(), self.longest];
        let (mut padded_ids, mut padded) = (Vec::with_capacity(shape[0] * shape[1]), Vec::new());
        for entries in offsets.windows(2).map(|ends| ends[0]..ends[1]) {
            let padding = self.longest - entries.len();
            padded_ids.extend(ids[entries.clone()].iter().map(|&id| id as i32));
            padded_ids.extend(std::iter::repeat_n(ids[entries.start] as i32, padding));
            padded.extend_from_slice(&log_probabilities[entries]);
            padded.extend(std::iter::repeat_n(NOTHING, padding));
        }
        let (device, dtype) = (student.device(), student.dtype());
        let floats = |values: Vec<f32>, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values, shape), &device).cast(dtype)
        };
        PaddedTargets {
            ids: Tensor::from_data(TensorData::new(padded_ids, shape), &device),
            log_probabilities: floats(padded, shape),
            ghost: ghost.map(|ghost| floats(ghost.to_vec(), [shape[0], 1])),
        }
    }
}

impl PaddedTargets {
    /// Where a row has ended: `[rows, classes]`.
    pub(crate) fn padding(&self) -> Tensor<2, Bool> {
        self.log_probabilities.clone().lower_elem(NOTHING / 2.0)
    }

    /// Logits of the listed ids and, last, of the rest: `[rows, classes + 1]`.
    pub(crate) fn logits(&self) -> Tensor<2> {
        let rest = match &self.ghost {
            Some(ghost) => ghost.clone(),
            None => self.log_probabilities.clone().narrow(1, 0, 1).full_like(NOTHING),
        };
        Tensor::cat(vec![self.log_probabilities.clone(), rest], 1)
    }
}

fn row_count(rows: &SparseRows) -> usize {
    rows.offsets.len().saturating_sub(1)
}

/// The length of the longest row.
fn check(rows: &SparseRows, vocab_size: usize) -> Result<usize, LossError> {
    check_lengths(rows)?;
    // The row, from 1, that had the id last.
    let mut seen = vec![0; vocab_size];
    let mut longest = 0;
    for (row, ends) in rows.offsets.windows(2).enumerate() {
        let (ids, log_probabilities) = (&rows.ids[ends[0]..ends[1]], &rows.log_probabilities[ends[0]..ends[1]]);
        let wrong = |rule: String| Err(LossError::Sparse { row, rule });
        if ids.is_empty() {
            return wrong("no ids, must have at least one".into());
        }
        longest = longest.max(ids.len());
        for &id in ids {
            match seen.get_mut(id as usize) {
                None => return wrong(format!("id `{id}`, must be under vocab_size = `{vocab_size}`")),
                Some(last) if *last == row + 1 => return wrong(format!("id `{id}` more than once")),
                Some(last) => *last = row + 1,
            }
        }
        if let Some(value) = log_probabilities.iter().find(|value| !value.is_finite()) {
            return wrong(format!("a log-probability of `{value}`, must be finite"));
        }
        let ghost = rows.ghost.as_ref().map_or(f32::NEG_INFINITY, |ghost| ghost[row]);
        let mass: f32 = log_probabilities.iter().chain([&ghost]).map(|value| value.exp()).sum();
        if mass.is_nan() || (mass - 1.0).abs() > MASS_TOLERANCE {
            return wrong(format!("a probability of `{mass:.4}` in all, must be `1`"));
        }
    }
    Ok(longest)
}

fn check_lengths(rows: &SparseRows) -> Result<(), LossError> {
    let SparseRows { offsets, ids, log_probabilities, ghost } = rows;
    let wrong = |what, length, expected| Err(LossError::Lengths { what, length, expected });
    if offsets.first() != Some(&0) || !offsets.is_sorted() {
        return Err(LossError::Offsets);
    }
    if offsets.last() != Some(&ids.len()) {
        return wrong("ids", ids.len(), offsets.last().copied().unwrap_or(0));
    }
    if log_probabilities.len() != ids.len() {
        return wrong("log-probabilities", log_probabilities.len(), ids.len());
    }
    match ghost {
        Some(ghost) if ghost.len() != row_count(rows) => wrong("ghosts", ghost.len(), row_count(rows)),
        _ => Ok(()),
    }
}

//! A teacher of whom only a few ids a row are known.

use std::ops::Range;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use limbeck_kernels::NOTHING;

use crate::error::LossError;

/// ln of the smallest 32-bit float, in place of a ghost of -∞: a mass that underflowed when it was stored is small, not none.
const UNDERFLOWED: f32 = -103.28;

/// How far the probabilities of a row may be from 1 in all: they may have been stored as 16-bit logarithms.
const MASS_TOLERANCE: f32 = 0.02;

/// Rows of sparse distributions in host memory, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct SparseRows<'a> {
    /// Row i has the entries `offsets[i]..offsets[i + 1]`: one more than there are rows, from 0.
    pub offsets: &'a [usize],
    /// Each at most once a row.
    pub ids: &'a [u32],
    /// ln of the probability of each entry.
    pub log_probabilities: &'a [f32],
    /// ln of the probability of all other ids of each row together. Without it there is nothing on them: the entries are
    /// frequencies in a sample.
    pub ghost: Option<&'a [f32]>,
}

/// [`SparseRows`] on a device, padded to one length. The probabilities of a row are taken relative to their sum.
#[derive(Clone, Debug)]
pub struct SparseTargets {
    /// Padded with the row's first: `[rows, classes]`.
    pub(crate) ids: Tensor<2, Int>,
    /// Padded with [`NOTHING`]: `[rows, classes]`.
    pub(crate) log_probabilities: Tensor<2>,
    /// ln of the probability of the rest: `[rows, 1]`.
    pub(crate) ghost: Option<Tensor<2>>,
}

impl SparseTargets {
    /// Checks the rows, pads them and puts them on `device`.
    ///
    /// # Errors
    /// [`LossError::Sparse`] for a row without entries, whose ids repeat or are not under `vocab_size`, or whose
    /// probabilities are no finite logarithms that add up to 1; for lengths that do not fit together.
    pub fn new(rows: SparseRows<'_>, vocab_size: usize, device: &Device) -> Result<Self, LossError> {
        let longest = check(&rows, vocab_size)?;
        let mut ids = Vec::with_capacity(longest * row_count(&rows));
        let mut log_probabilities = Vec::with_capacity(ids.capacity());
        for entries in rows.offsets.windows(2).map(|ends| ends[0]..ends[1]) {
            let padding = longest - entries.len();
            ids.extend(rows.ids[entries.clone()].iter().map(|&id| id as i32));
            ids.extend(std::iter::repeat_n(rows.ids[entries.start] as i32, padding));
            log_probabilities.extend_from_slice(&rows.log_probabilities[entries]);
            log_probabilities.extend(std::iter::repeat_n(NOTHING, padding));
        }
        let shape = [row_count(&rows), longest];
        let finite = |&value: &f32| if value == f32::NEG_INFINITY { UNDERFLOWED } else { value };
        let ghost = rows.ghost.map(|ghost| ghost.iter().map(finite).collect::<Vec<_>>());
        Ok(Self {
            ids: Tensor::from_data(TensorData::new(ids, shape), device),
            log_probabilities: Tensor::from_data(TensorData::new(log_probabilities, shape), device),
            ghost: ghost.map(|ghost| Tensor::from_data(TensorData::new(ghost, [shape[0], 1]), device)),
        })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.ids.dims()[0]
    }

    /// Whether there is mass on the ids that are not listed.
    pub fn has_ghost(&self) -> bool {
        self.ghost.is_some()
    }

    /// Some of the rows, such as those of a chunk.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn narrow(&self, rows: Range<usize>) -> Self {
        Self {
            ids: self.ids.clone().narrow(0, rows.start, rows.len()),
            log_probabilities: self.log_probabilities.clone().narrow(0, rows.start, rows.len()),
            ghost: self.ghost.clone().map(|ghost| ghost.narrow(0, rows.start, rows.len())),
        }
    }

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

fn row_count(rows: &SparseRows<'_>) -> usize {
    rows.offsets.len().saturating_sub(1)
}

/// The length of the longest row.
fn check(rows: &SparseRows<'_>, vocab_size: usize) -> Result<usize, LossError> {
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
        let ghost = rows.ghost.map_or(f32::NEG_INFINITY, |ghost| ghost[row]);
        let mass: f32 = log_probabilities.iter().chain([&ghost]).map(|value| value.exp()).sum();
        if mass.is_nan() || (mass - 1.0).abs() > MASS_TOLERANCE {
            return wrong(format!("a probability of `{mass:.4}` in all, must be `1`"));
        }
    }
    Ok(longest)
}

fn check_lengths(rows: &SparseRows<'_>) -> Result<(), LossError> {
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

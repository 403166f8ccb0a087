//! What comes back: a teacher's distributions for the targets of a batch.

use arrow::array::{Array, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Float32Type, UInt16Type, UInt64Type};
use limbeck_config::LogitsCodec;

use crate::header::CacheHeader;
use crate::table::{COUNTS, GHOST, LOG_PROBABILITIES, LOGITS, PLACE_GAPS};

/// Distributions over a few ids each.
///
/// # Shapes
/// - `offsets`: `[targets + 1]`
/// - `ids`, `log_probabilities`: `[offsets.last()]`
/// - `ghost`: `[targets]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseTargets {
    /// Where each target's ids begin, and the end.
    pub offsets: Vec<usize>,
    /// Ids, ascending within a target.
    pub ids: Vec<u32>,
    /// Natural logarithms. As probabilities, they and the ghost sum to 1.
    pub log_probabilities: Vec<f32>,
    /// The log-probability of all other ids together, `-∞` where nothing is left; `None` for draws, which have none.
    pub ghost: Option<Vec<f32>>,
}

impl SparseTargets {
    /// Number of targets.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Distributions over every id.
///
/// # Shapes
/// - `logits`: `[targets, vocab_size]`, row-major
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DenseTargets {
    /// Ids of a target.
    pub vocab_size: usize,
    /// The teacher's logits, bit for bit.
    pub logits: Vec<f32>,
}

/// A teacher's distributions, target after target.
#[derive(Clone, Debug, PartialEq)]
pub enum CachedTargets {
    /// Of the codecs `random_sampling` and `top_k`.
    Sparse(SparseTargets),
    /// Of the codec `full`.
    Dense(DenseTargets),
}

impl CachedTargets {
    /// No target yet.
    pub(crate) fn none(header: &CacheHeader) -> CachedTargets {
        let sparse =
            |ghost| CachedTargets::Sparse(SparseTargets { offsets: vec![0], ghost, ..SparseTargets::default() });
        match header.codec {
            LogitsCodec::RandomSampling { .. } => sparse(None),
            LogitsCodec::TopK { .. } => sparse(Some(Vec::new())),
            LogitsCodec::Full {} => {
                let vocab_size = header.identity.vocab_size as usize;
                CachedTargets::Dense(DenseTargets { vocab_size, logits: Vec::new() })
            }
        }
    }
}

/// Why a row cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its targets are not those asked for.
    OtherTargets,
    /// It is not what the codec writes.
    Malformed,
}

/// Adds the row of a part to `targets`; `wanted` says of each pair in the segment whether its target counts.
pub(crate) fn append(
    targets: &mut CachedTargets,
    header: &CacheHeader,
    row: &RecordBatch,
    wanted: &[bool],
) -> Result<(), Refusal> {
    let gaps = list::<UInt64Type>(row, PLACE_GAPS).ok_or(Refusal::Malformed)?;
    let places = places(&gaps).ok_or(Refusal::Malformed)?;
    let runs = runs(&places, header.identity.vocab_size, wanted)?;
    match targets {
        CachedTargets::Sparse(sparse) => append_sparse(sparse, header, row, &places, &runs),
        CachedTargets::Dense(dense) => {
            let logits = list::<Float32Type>(row, LOGITS).ok_or(Refusal::Malformed)?;
            if places.len() != runs.len() || logits.len() != places.len() * dense.vocab_size {
                return Err(Refusal::Malformed);
            }
            dense.logits.extend_from_slice(&logits);
            Ok(())
        }
    }
}

/// The cumulative sums; `None` where they do not fit.
fn places(gaps: &[u64]) -> Option<Vec<u64>> {
    let mut place = 0u64;
    let next = |gap: &u64| {
        place = place.checked_add(*gap)?;
        Some(place)
    };
    gaps.iter().map(next).collect()
}

/// Number of places of each target, which are those of `wanted`.
fn runs(places: &[u64], vocab_size: u64, wanted: &[bool]) -> Result<Vec<usize>, Refusal> {
    if places.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(Refusal::Malformed);
    }
    let mut runs = Vec::new();
    let mut left = places;
    for (position, _) in (0u64..).zip(wanted).filter(|(_, counts)| **counts) {
        let (first, end) = (position * vocab_size, (position + 1) * vocab_size);
        let length = left.partition_point(|place| *place < end);
        if length == 0 || left[0] < first {
            return Err(Refusal::OtherTargets);
        }
        runs.push(length);
        left = &left[length..];
    }
    if left.is_empty() { Ok(runs) } else { Err(Refusal::OtherTargets) }
}

fn append_sparse(
    sparse: &mut SparseTargets,
    header: &CacheHeader,
    row: &RecordBatch,
    places: &[u64],
    runs: &[usize],
) -> Result<(), Refusal> {
    match header.codec {
        LogitsCodec::RandomSampling { draws, .. } => {
            let counts = list::<UInt16Type>(row, COUNTS).ok_or(Refusal::Malformed)?;
            append_counts(sparse, &counts, runs, draws)?;
        }
        LogitsCodec::TopK { .. } => {
            let kept = list::<Float32Type>(row, LOG_PROBABILITIES).ok_or(Refusal::Malformed)?;
            let rest = list::<Float32Type>(row, GHOST).ok_or(Refusal::Malformed)?;
            append_kept(sparse, &kept, &rest, runs)?;
        }
        LogitsCodec::Full {} => return Err(Refusal::Malformed),
    }
    sparse.ids.extend(places.iter().map(|place| (place % header.identity.vocab_size) as u32));
    if sparse.ids.len() != sparse.log_probabilities.len() {
        return Err(Refusal::Malformed);
    }
    let mut end = sparse.offsets.last().copied().unwrap_or(0);
    for run in runs {
        end += run;
        sparse.offsets.push(end);
    }
    Ok(())
}

/// `ln(count / draws)`; the counts of a target sum to the draws.
fn append_counts(sparse: &mut SparseTargets, counts: &[u16], runs: &[usize], draws: u32) -> Result<(), Refusal> {
    let mut left = counts;
    for run in runs {
        let (of_target, others) = left.split_at_checked(*run).ok_or(Refusal::Malformed)?;
        if of_target.iter().map(|count| u32::from(*count)).sum::<u32>() != draws {
            return Err(Refusal::Malformed);
        }
        left = others;
    }
    // Most counts are small: a logarithm each would cost more than reading them.
    let log = |count: u32| libm::log(f64::from(count) / f64::from(draws)) as f32;
    let logs: Vec<f32> = (0..=draws.min(64)).map(log).collect();
    let log = |count: &u16| logs.get(usize::from(*count)).copied().unwrap_or_else(|| log(u32::from(*count)));
    sparse.log_probabilities.extend(counts.iter().map(log));
    Ok(())
}

/// Log-probabilities as they are, but for what their rounding did to the sum: a divergence is one of two distributions.
fn append_kept(sparse: &mut SparseTargets, kept: &[f32], rest: &[f32], runs: &[usize]) -> Result<(), Refusal> {
    if rest.len() != runs.len() {
        return Err(Refusal::Malformed);
    }
    let mut left = kept;
    for (run, rest) in runs.iter().zip(rest) {
        let (of_target, others) = left.split_at_checked(*run).ok_or(Refusal::Malformed)?;
        let probability = |log: &f32| libm::exp(f64::from(*log));
        let sum = of_target.iter().map(probability).sum::<f64>() + probability(rest);
        if !(sum.is_finite() && sum > 0.0) {
            return Err(Refusal::Malformed);
        }
        let normalised = |log: &f32| (f64::from(*log) - libm::log(sum)) as f32;
        sparse.log_probabilities.extend(of_target.iter().map(normalised));
        if let Some(all) = &mut sparse.ghost {
            all.push(normalised(rest));
        }
        left = others;
    }
    Ok(())
}

/// The list in a column of a batch with one row.
fn list<T: ArrowPrimitiveType>(row: &RecordBatch, column: &str) -> Option<ScalarBuffer<T::Native>> {
    let lists = row.column_by_name(column)?.as_list_opt::<i32>()?;
    let values = (lists.len() == 1 && lists.null_count() == 0).then(|| lists.value(0))?;
    let values = values.as_primitive_opt::<T>()?;
    (values.null_count() == 0).then(|| values.values().clone())
}

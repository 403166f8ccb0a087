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

/// A row of a part, decoded: the distributions of a segment's targets.
pub(crate) struct Segment {
    /// Offsets of the targets from the segment's start, ascending.
    positions: Vec<u32>,
    targets: CachedTargets,
}

impl Segment {
    /// Decodes a row; `None` if it is not what the codec writes.
    pub(crate) fn decode(header: &CacheHeader, row: &RecordBatch) -> Option<Segment> {
        let places = places(&list::<UInt64Type>(row, PLACE_GAPS)?)?;
        let (positions, runs) = runs(&places, header.identity.vocab_size)?;
        let mut targets = CachedTargets::none(header);
        match &mut targets {
            CachedTargets::Sparse(sparse) => decode_sparse(sparse, header, row, &places, &runs)?,
            CachedTargets::Dense(dense) => {
                let logits = list::<Float32Type>(row, LOGITS)?;
                if places.len() != runs.len() || logits.len() != places.len() * dense.vocab_size {
                    return None;
                }
                dense.logits.extend_from_slice(&logits);
            }
        }
        Some(Segment { positions, targets })
    }

    #[cfg(test)]
    pub(crate) fn of(positions: Vec<u32>, targets: CachedTargets) -> Segment {
        Segment { positions, targets }
    }

    /// Adds the segment to `targets`; whether its targets are those that `wanted` says of each pair in it. If not, nothing is.
    pub(crate) fn add_to(&self, targets: &mut CachedTargets, wanted: &[bool]) -> bool {
        let wanted = (0u32..).zip(wanted).filter(|(_, counts)| **counts).map(|(position, _)| position);
        if !wanted.eq(self.positions.iter().copied()) {
            return false;
        }
        match (targets, &self.targets) {
            (CachedTargets::Sparse(all), CachedTargets::Sparse(own)) => {
                let before = all.ids.len();
                all.ids.extend_from_slice(&own.ids);
                all.log_probabilities.extend_from_slice(&own.log_probabilities);
                all.offsets.extend(own.offsets[1..].iter().map(|end| before + end));
                if let (Some(all), Some(own)) = (&mut all.ghost, &own.ghost) {
                    all.extend_from_slice(own);
                }
                true
            }
            (CachedTargets::Dense(all), CachedTargets::Dense(own)) => {
                all.logits.extend_from_slice(&own.logits);
                true
            }
            _ => false,
        }
    }

    /// Memory that it takes, about; `None` for every logit, which take more than reading them takes time.
    pub(crate) fn bytes_if_worth_keeping(&self) -> Option<usize> {
        let CachedTargets::Sparse(sparse) = &self.targets else { return None };
        Some(8 * sparse.ids.len() + 12 * sparse.offsets.len() + 4 * self.positions.len() + size_of::<Self>())
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

/// The targets that have places, and how many each; `None` where the places do not ascend.
fn runs(places: &[u64], vocab_size: u64) -> Option<(Vec<u32>, Vec<usize>)> {
    if !places.is_sorted_by(|one, next| one < next) {
        return None;
    }
    let of_target = |one: &u64, next: &u64| one / vocab_size == next / vocab_size;
    let runs = places.chunk_by(of_target).map(|run| Some((u32::try_from(run[0] / vocab_size).ok()?, run.len())));
    runs.collect::<Option<Vec<_>>>().map(|runs| runs.into_iter().unzip())
}

fn decode_sparse(
    sparse: &mut SparseTargets,
    header: &CacheHeader,
    row: &RecordBatch,
    places: &[u64],
    runs: &[usize],
) -> Option<()> {
    match header.codec {
        LogitsCodec::RandomSampling { draws, .. } => {
            append_counts(sparse, &list::<UInt16Type>(row, COUNTS)?, runs, draws)?;
        }
        LogitsCodec::TopK { .. } => {
            append_kept(
                sparse,
                &list::<Float32Type>(row, LOG_PROBABILITIES)?,
                &list::<Float32Type>(row, GHOST)?,
                runs,
            )?;
        }
        LogitsCodec::Full {} => return None,
    }
    sparse.ids.extend(places.iter().map(|place| (place % header.identity.vocab_size) as u32));
    if sparse.ids.len() != sparse.log_probabilities.len() {
        return None;
    }
    let mut end = 0;
    for run in runs {
        end += run;
        sparse.offsets.push(end);
    }
    Some(())
}

/// `ln(count / draws)`; the counts of a target sum to the draws.
fn append_counts(sparse: &mut SparseTargets, counts: &[u16], runs: &[usize], draws: u32) -> Option<()> {
    let mut left = counts;
    for run in runs {
        let (of_target, others) = left.split_at_checked(*run)?;
        if of_target.iter().map(|count| u32::from(*count)).sum::<u32>() != draws {
            return None;
        }
        left = others;
    }
    // Most counts are small: a logarithm each would cost more than reading them.
    let log = |count: u32| libm::log(f64::from(count) / f64::from(draws)) as f32;
    let logs: Vec<f32> = (0..=draws.min(64)).map(log).collect();
    let log = |count: &u16| logs.get(usize::from(*count)).copied().unwrap_or_else(|| log(u32::from(*count)));
    sparse.log_probabilities.extend(counts.iter().map(log));
    Some(())
}

/// Log-probabilities as they are, but for what their rounding did to the sum: a divergence is one of two distributions.
fn append_kept(sparse: &mut SparseTargets, kept: &[f32], rest: &[f32], runs: &[usize]) -> Option<()> {
    if rest.len() != runs.len() {
        return None;
    }
    let mut left = kept;
    for (run, rest) in runs.iter().zip(rest) {
        let (of_target, others) = left.split_at_checked(*run)?;
        let probability = |log: &f32| libm::exp(f64::from(*log));
        let sum = of_target.iter().map(probability).sum::<f64>() + probability(rest);
        if !(sum.is_finite() && sum > 0.0) {
            return None;
        }
        let log_sum = libm::log(sum);
        let normalised = |log: &f32| (f64::from(*log) - log_sum) as f32;
        sparse.log_probabilities.extend(of_target.iter().map(normalised));
        if let Some(all) = &mut sparse.ghost {
            all.push(normalised(rest));
        }
        left = others;
    }
    Some(())
}

/// The list in a column of a batch with one row.
fn list<T: ArrowPrimitiveType>(row: &RecordBatch, column: &str) -> Option<ScalarBuffer<T::Native>> {
    let lists = row.column_by_name(column)?.as_list_opt::<i32>()?;
    let values = (lists.len() == 1 && lists.null_count() == 0).then(|| lists.value(0))?;
    let values = values.as_primitive_opt::<T>()?;
    (values.null_count() == 0).then(|| values.values().clone())
}

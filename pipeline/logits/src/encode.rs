//! A segment's logits become rows of the table.

use limbeck_config::LogitsCodec;
use limbeck_random::mix;
use rayon::prelude::*;

use crate::codec::{random_sampling, top_k};
use crate::distribution::Distribution;
use crate::error::LogitsError;
use crate::header::CacheHeader;
use crate::segment::{SegmentKey, SegmentLogits};

/// Of how many targets a divergence is computed for one.
const PROBE_EVERY: u64 = 16;
/// Tells the choice of probes from the draws.
const PROBES: u64 = 1;

/// A row of the table: one set of one segment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) key: SegmentKey,
    pub(crate) length: u32,
    pub(crate) set: u32,
    /// `position * vocab_size + id`, ascending; with the codec `full` one a target, of id 0.
    pub(crate) places: Vec<u64>,
    /// Random sampling: how often each place was drawn.
    pub(crate) counts: Vec<u16>,
    /// Top-k: the log-probability of each place. Full: `vocab_size` logits a place.
    pub(crate) floats: Vec<f32>,
    /// Top-k: the log-probability of all other ids, one a target.
    pub(crate) rest: Vec<f32>,
}

/// How near the cache is to the teacher, by about one target in 16: which ones is a function of the seed and of their places
/// in the data, and every target is as likely as any other, wherever in its segment it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fidelity {
    /// Targets that were looked at.
    pub targets: u64,
    /// Sum over them, in nats. Random sampling: KL(one draw of the set ‖ teacher), which is noise and no bias. Top-k:
    /// KL(teacher ‖ cache) with the rest shared out evenly. Full: 0.
    pub kl_nats: f64,
}

impl Fidelity {
    /// Mean divergence of a target, in nats.
    pub fn mean_kl_nats(&self) -> f64 {
        self.kl_nats / self.targets.max(1) as f64
    }
}

impl std::ops::AddAssign for Fidelity {
    fn add_assign(&mut self, other: Fidelity) {
        self.targets += other.targets;
        self.kl_nats += other.kl_nats;
    }
}

/// What is kept of one target.
struct Target {
    ids: Vec<u32>,
    counts: Vec<u16>,
    floats: Vec<f32>,
    rest: Option<f32>,
    /// Where the target is probed.
    kl_nats: Option<f64>,
}

/// The rows of a segment, one a set, and how near they are to the teacher.
pub(crate) fn encode(header: &CacheHeader, segment: &SegmentLogits) -> Result<(Vec<Row>, Fidelity), LogitsError> {
    let vocab_size = header.identity.vocab_size as usize;
    let expected = segment.positions.len() * vocab_size;
    if segment.logits.len() != expected {
        return Err(LogitsError::LogitsShape { key: segment.key, found: segment.logits.len(), expected });
    }
    let logits = segment.logits.par_chunks_exact(vocab_size);
    let targets: Vec<Vec<Target>> = (segment.positions.par_iter().zip(logits))
        .map(|(position, logits)| {
            target(header, segment.key, *position, logits)
                .ok_or(LogitsError::NotFinite { key: segment.key, position: *position })
        })
        .collect::<Result<_, _>>()?;
    let mut fidelity = Fidelity::default();
    for target in targets.iter().filter_map(|sets| sets.first()) {
        if let Some(kl_nats) = target.kl_nats {
            fidelity += Fidelity { targets: 1, kl_nats };
        }
    }
    let rows = (0..header.sets()).map(|set| row(segment, set, vocab_size as u64, &targets)).collect();
    Ok((rows, fidelity))
}

/// Every set of one target; `None` where the logits are not finite.
fn target(header: &CacheHeader, key: SegmentKey, position: u32, logits: &[f32]) -> Option<Vec<Target>> {
    let distribution = Distribution::new(logits, header.temperature)?;
    let SegmentKey { entry, document, segment } = key;
    let place = [entry.into(), document, segment.into(), position.into()];
    let probed = mix(&[PROBES, header.seed, mix(&place)]).is_multiple_of(PROBE_EVERY);
    match header.codec {
        LogitsCodec::RandomSampling { draws, sets } => {
            let cumulative = distribution.cumulative();
            let draw = |set: u32| {
                let seed = mix(&[header.seed, mix(&place), set.into()]);
                let drawn = random_sampling::sample(&distribution, &cumulative, draws, seed);
                let kl_nats = probed.then(|| random_sampling::divergence(&distribution, &drawn, draws));
                let (ids, counts) = drawn.into_iter().unzip();
                Target { ids, counts, floats: Vec::new(), rest: None, kl_nats }
            };
            Some((0..sets).map(draw).collect())
        }
        LogitsCodec::TopK { k } => {
            let kept = top_k::keep(&distribution, k);
            let kl_nats = probed.then(|| top_k::divergence(&distribution, &kept));
            let (ids, floats) = kept.ids.into_iter().unzip();
            Some(vec![Target { ids, counts: Vec::new(), floats, rest: Some(kept.rest), kl_nats }])
        }
        LogitsCodec::Full {} => {
            let floats = logits.to_vec();
            Some(vec![Target { ids: vec![0], counts: Vec::new(), floats, rest: None, kl_nats: probed.then_some(0.0) }])
        }
    }
}

/// One set of a segment's targets, one after the other.
fn row(segment: &SegmentLogits, set: u32, vocab_size: u64, targets: &[Vec<Target>]) -> Row {
    let SegmentLogits { key, length, positions, .. } = *segment;
    let (places, counts, floats, rest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut row = Row { key, length, set, places, counts, floats, rest };
    let of_set = targets.iter().filter_map(|sets| sets.get(set as usize));
    for (position, target) in positions.iter().zip(of_set) {
        row.places.extend(target.ids.iter().map(|id| u64::from(*position) * vocab_size + u64::from(*id)));
        row.counts.extend(&target.counts);
        row.floats.extend(&target.floats);
        row.rest.extend(target.rest);
    }
    row
}

//! What a capture says of itself is what it would say had it looked at every target.

use super::*;
use crate::encode::encode;

const SEGMENTS: u64 = 31;
const TARGETS: usize = 53;
const SEEDS: u64 = 200;
/// Standard errors: a right sampler is farther off once in 1.7 million times.
const MOST_ERRORS: f64 = 5.0;

/// Flat where a segment begins, ever sharper behind it, as a model's are.
fn teacher(key: SegmentKey, position: u32) -> Vec<f32> {
    logits(key, position).into_iter().map(|logit| logit * (0.3 + position as f32 / 40.0)).collect()
}

fn key(document: u64) -> SegmentKey {
    SegmentKey { entry: 0, document, segment: 0 }
}

/// `KL(teacher ‖ top 12, the rest shared out evenly)` in 64 bits, of every target: `[segments, targets]`.
fn divergences() -> Vec<f64> {
    let of = |document, position| {
        let logits = teacher(key(document), position);
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let mut p: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp() / sum).collect();
        p.sort_by(|one, other| other.total_cmp(one));
        let even = p[12..].iter().sum::<f64>() / (VOCAB_SIZE - 12) as f64;
        p[12..].iter().map(|p| p * (p / even).ln()).sum()
    };
    (0..SEGMENTS).flat_map(|document| (0..TARGETS as u32).map(move |position| of(document, position))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean of the probes and their number, over several seeds.
fn probed(seeds: std::ops::Range<u64>) -> Result<(f64, f64), LogitsError> {
    let (mut kl_nats, mut targets) = (0.0, 0);
    let positions: Vec<u32> = (0..TARGETS as u32).collect();
    for document in 0..SEGMENTS {
        let logits: Vec<f32> = positions.iter().flat_map(|position| teacher(key(document), *position)).collect();
        let (length, positions) = (TARGETS as u32, &positions[..]);
        let segment = SegmentLogits { key: key(document), length, positions, logits: &logits };
        for seed in seeds.clone() {
            let (_, fidelity) = encode(&CacheHeader { seed, ..header(TOP_K)? }, &segment)?;
            kl_nats += fidelity.kl_nats;
            targets += fidelity.targets;
        }
    }
    Ok((kl_nats / targets as f64, targets as f64))
}

#[test]
fn the_probes_have_the_mean_of_all_targets() -> Outcome {
    let all = divergences();
    let truth = mean(&all);
    let deviation = mean(&all.iter().map(|value| (value - truth).powi(2)).collect::<Vec<_>>()).sqrt();
    let errors = |(found, targets): (f64, f64)| (found - truth).abs() / (deviation / targets.sqrt());
    for seed in 0..4 {
        let found = probed(seed..seed + 1)?;
        assert!(errors(found) < MOST_ERRORS, "seed {seed}: {found:?}, all {truth} ± {deviation}");
    }
    let found = probed(0..SEEDS)?;
    let expected = (SEEDS * SEGMENTS * TARGETS as u64) as f64 / 16.0;
    // 5 standard deviations of a binomial.
    assert!((found.1 - expected).abs() < 5.0 * expected.sqrt(), "{found:?} {expected}");
    assert!(errors(found) < MOST_ERRORS, "{found:?}, all {truth} ± {deviation}");
    // Control: one in 16 from the start of each segment is of its beginning too often.
    let starts: Vec<f64> = all.chunks(TARGETS).flat_map(|segment| segment.iter().copied().step_by(16)).collect();
    assert!(errors((mean(&starts), found.1)) > 2.0 * MOST_ERRORS, "{} {truth}", mean(&starts));
    Ok(())
}

#[test]
fn which_targets_are_probed_depends_on_the_seed() -> Outcome {
    assert_eq!(probed(3..4)?, probed(3..4)?);
    assert_ne!(probed(3..4)?, probed(4..5)?);
    Ok(())
}

#[test]
fn a_parts_ids_are_all_that_it_keeps_of_one_set() -> Outcome {
    for codec in [RANDOM_SAMPLING, TOP_K, FULL] {
        let directory = tempfile::tempdir()?;
        let mut capture = Capture::open(directory.path(), header(codec)?, Shard::default())?;
        let mut reported = 0;
        for part in capture.pending() {
            reported += capture_part(&mut capture, part)?.ids;
        }
        drop(capture);
        let segments = segments();
        let requests: Vec<SegmentRequest> = segments.iter().map(|segment| segment.request(0)).collect();
        let kept = match open(directory.path())?.read(&requests)? {
            CachedTargets::Sparse(sparse) => sparse.ids.len(),
            CachedTargets::Dense(dense) => dense.logits.len(),
        };
        assert_eq!(reported, kept as u64, "{codec:?}");
    }
    Ok(())
}

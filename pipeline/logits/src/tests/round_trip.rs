//! What comes back is what was captured.

use super::*;
use crate::codec::random_sampling::sample;
use crate::distribution::Distribution;

/// The made-up segments in another order than they were captured in, twice the last.
fn shuffled() -> Vec<Segment> {
    let mut segments = segments();
    segments.sort_by_key(|segment| mix(&[segment.key.document, 3]));
    segments.extend(segments.last().cloned());
    segments
}

/// `ln softmax` in 64 bits, written for this test.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    logits.iter().map(|logit| f64::from(*logit) - sum.ln()).collect()
}

#[test]
fn full_logits_come_back_bit_for_bit() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), FULL)?;
    let segments = shuffled();
    let requests: Vec<SegmentRequest> = segments.iter().map(|segment| segment.request(9)).collect();
    let CachedTargets::Dense(dense) = open(directory.path())?.read(&requests)? else { panic!("full is dense") };
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let captured: Vec<f32> = segments.iter().flat_map(Segment::logits).collect();
    assert_eq!(dense.vocab_size, VOCAB_SIZE);
    assert_eq!(bits(&dense.logits), bits(&captured));
    Ok(())
}

#[test]
fn top_k_comes_back_as_a_distribution_of_the_largest_ids_and_the_rest() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), TOP_K)?;
    let segments = shuffled();
    let requests: Vec<SegmentRequest> = segments.iter().map(|segment| segment.request(0)).collect();
    let targets = sparse(open(directory.path())?.read(&requests)?)?;
    let rest = targets.ghost.clone().ok_or("no rest")?;
    let expected: Vec<Vec<f64>> =
        segments.iter().flat_map(|s| s.logits().chunks(VOCAB_SIZE).map(log_softmax).collect::<Vec<_>>()).collect();
    assert_eq!((targets.len(), rest.len()), (expected.len(), expected.len()));
    for (target, teacher) in expected.iter().enumerate() {
        let range = targets.offsets[target] as usize..targets.offsets[target + 1] as usize;
        let ids = &targets.ids[range.clone()];
        let least = ids.iter().map(|id| teacher[*id as usize]).fold(f64::INFINITY, f64::min);
        let others: Vec<f64> =
            (0..VOCAB_SIZE).filter(|id| !ids.contains(&(*id as u32))).map(|id| teacher[id]).collect();
        assert!(ids.len() == 12 && others.iter().all(|other| *other <= least));
        let mut sum = f64::from(rest[target]).exp();
        for (id, log) in ids.iter().zip(&targets.log_probabilities[range]) {
            // 15 bits of a logarithm under 12, and the sum's rounding spread over all.
            assert!((f64::from(*log) - teacher[*id as usize]).abs() < 3e-4, "{log}");
            sum += f64::from(*log).exp();
        }
        let left: f64 = others.iter().map(|log| log.exp()).sum();
        assert!((f64::from(rest[target]) - left.ln()).abs() < 3e-4);
        assert!((sum - 1.0).abs() < 1e-6, "32-bit logarithms of a sum of 1: {sum}");
    }
    Ok(())
}

#[test]
fn draws_are_a_function_of_seed_segment_position_and_set() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), RANDOM_SAMPLING)?;
    let cache = open(directory.path())?;
    let segments = shuffled();
    for epoch in 0..5u64 {
        let requests: Vec<SegmentRequest> = segments.iter().map(|segment| segment.request(epoch)).collect();
        let targets = sparse(cache.read(&requests)?)?;
        let mut target = 0;
        for segment in &segments {
            let SegmentKey { entry, document, segment: index } = segment.key;
            for position in segment.positions() {
                let place = mix(&[entry.into(), document, index.into(), position.into()]);
                let distribution = Distribution::new(&logits(segment.key, position), 1.0).ok_or("not finite")?;
                let drawn = sample(&distribution, &distribution.cumulative(), 50, mix(&[5, place, epoch % 3]));
                let range = targets.offsets[target] as usize..targets.offsets[target + 1] as usize;
                let found = targets.ids[range.clone()].iter().zip(&targets.log_probabilities[range]);
                let found: Vec<(u32, u16)> =
                    found.map(|(id, log)| (*id, (f64::from(*log).exp() * 50.0).round() as u16)).collect();
                assert_eq!(found, drawn, "{} position {position} epoch {epoch}", segment.key);
                target += 1;
            }
        }
        assert_eq!((target, targets.ghost), (targets.offsets.len() - 1, None));
    }
    Ok(())
}

#[test]
fn a_batch_gets_the_same_targets_alone_and_among_others() -> Outcome {
    for codec in [RANDOM_SAMPLING, TOP_K] {
        let directory = tempfile::tempdir()?;
        capture(directory.path(), codec)?;
        let cache = open(directory.path())?;
        let segments = segments();
        let requests: Vec<SegmentRequest> = segments.iter().map(|segment| segment.request(1)).collect();
        let together = sparse(cache.read(&requests)?)?;
        let mut ids = Vec::new();
        for request in &requests {
            ids.extend(sparse(cache.read(std::slice::from_ref(request))?)?.ids);
        }
        assert_eq!(ids, together.ids);
    }
    let directory = tempfile::tempdir()?;
    capture(directory.path(), TOP_K)?;
    assert!(sparse(open(directory.path())?.read(&[])?)?.is_empty());
    Ok(())
}

#[test]
fn fidelity_is_the_divergence_of_what_was_kept() -> Outcome {
    let segment = Segment { key: SegmentKey { entry: 0, document: 4, segment: 1 }, targets: vec![true; 61] };
    let (positions, logits) = (segment.positions(), segment.logits());
    let logits = SegmentLogits { key: segment.key, length: 61, positions: &positions, logits: &logits };
    let fidelity = |codec| -> Result<_, LogitsError> {
        crate::encode::encode(&CacheHeader { seed: 5, ..header(codec)? }, &logits)
    };
    let is_probe = |position: &u32| mix(&[1, 5, mix(&[0, 4, 1, u64::from(*position)])]).is_multiple_of(16);
    let probes: Vec<u32> = positions.iter().copied().filter(is_probe).collect();
    assert!(probes.len() > 1, "{probes:?}");
    let mean = |of: &dyn Fn(u32, Vec<f64>) -> f64| {
        let sum = probes.iter().map(|probe| of(*probe, log_softmax(&super::logits(segment.key, *probe)))).sum::<f64>();
        sum / probes.len() as f64
    };

    let (_, full) = fidelity(FULL)?;
    assert_eq!((full.targets, full.kl_nats), (probes.len() as u64, 0.0));

    let (_, top) = fidelity(TOP_K)?;
    let expected = mean(&|_, mut teacher| {
        teacher.sort_by(|one, other| other.total_cmp(one));
        let rest: f64 = teacher[12..].iter().map(|log| log.exp()).sum();
        teacher[12..].iter().map(|log| log.exp() * (log - (rest / 85.0).ln())).sum()
    });
    assert!((top.mean_kl_nats() - expected).abs() < 1e-4, "{} {expected}", top.mean_kl_nats());

    let (rows, sampled) = fidelity(RANDOM_SAMPLING)?;
    let expected = mean(&|probe, teacher| {
        let of_probe = |place: &u64| place / VOCAB_SIZE as u64 == u64::from(probe);
        let drawn = rows[0].places.iter().zip(&rows[0].counts).filter(|(place, _)| of_probe(place));
        let term = |(place, count): (&u64, &u16)| {
            let share = f64::from(*count) / 50.0;
            share * (share.ln() - teacher[(place % VOCAB_SIZE as u64) as usize])
        };
        drawn.map(term).sum()
    });
    // 32-bit logarithms of the teacher.
    assert!((sampled.mean_kl_nats() - expected).abs() < 1e-5);
    Ok(())
}

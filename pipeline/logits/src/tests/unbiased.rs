//! Random sampling has the teacher as its mean; the most probable ids alone have not.

use super::*;
use crate::encode::{Row, encode};

const REDRAWS: u32 = 10_000;
const DRAWS: u32 = 50;
const POSITIONS: usize = 7;
/// Chi-square of one degree over an id: with at most 7 · 97 ids tested, 5 standard deviations are a chance of
/// 679 · 5.7e-7 = 4e-4 (Bonferroni) that a right sampler fails.
const MOST_DEVIATIONS: f64 = 5.0;

fn segment() -> Segment {
    Segment { key: SegmentKey { entry: 0, document: 11, segment: 2 }, targets: vec![true; POSITIONS] }
}

/// The teacher's probabilities, `[positions, vocab_size]`, in 64 bits.
fn teacher() -> Vec<f64> {
    let softmax = |logits: &[f32]| {
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        logits.iter().map(|logit| f64::from(*logit).exp() / sum).collect::<Vec<_>>()
    };
    segment().logits().chunks(VOCAB_SIZE).flat_map(softmax).collect()
}

fn rows(codec: LogitsCodec) -> Result<Vec<Row>, LogitsError> {
    let segment = segment();
    let (positions, logits) = (segment.positions(), segment.logits());
    let length = segment.targets.len() as u32;
    let logits = SegmentLogits { key: segment.key, length, positions: &positions, logits: &logits };
    encode(&header(codec)?, &logits).map(|(rows, _)| rows)
}

/// How often each id was drawn in all, `[positions, vocab_size]`.
fn counts(rows: &[Row]) -> Vec<f64> {
    let mut counts = vec![0.0; POSITIONS * VOCAB_SIZE];
    for (place, count) in rows.iter().flat_map(|row| row.places.iter().zip(&row.counts)) {
        counts[*place as usize] += f64::from(*count);
    }
    counts
}

/// The largest deviation of a count from its expectation, in standard deviations of a binomial. Ids that are expected
/// fewer than 20 times at a position are taken as one.
fn largest_deviation(counts: &[f64], teacher: &[f64], draws: f64) -> f64 {
    let deviation = |(count, p): (f64, f64)| match p * (1.0 - p) * draws {
        variance if variance > 0.0 => (count - p * draws).abs() / variance.sqrt(),
        _ => 0.0,
    };
    let of_position = |(counts, teacher): (&[f64], &[f64])| {
        let pairs = counts.iter().copied().zip(teacher.iter().copied());
        let (often, seldom): (Vec<(f64, f64)>, Vec<_>) = pairs.partition(|(_, p)| p * draws >= 20.0);
        let pooled = seldom.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        often.into_iter().chain([pooled]).map(deviation).fold(0.0, f64::max)
    };
    counts.chunks(VOCAB_SIZE).zip(teacher.chunks(VOCAB_SIZE)).map(of_position).fold(0.0, f64::max)
}

/// A student's probabilities: flatter than the teacher, and shifted.
fn student() -> Vec<f64> {
    let teacher = teacher();
    let flattened = |row: &[f64]| {
        let weights: Vec<f64> = (0..VOCAB_SIZE).map(|id| row[(id + 1) % VOCAB_SIZE].powf(0.6)).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect::<Vec<_>>()
    };
    teacher.chunks(VOCAB_SIZE).flat_map(flattened).collect()
}

/// The gradient of forward KL by the student's logits.
fn gradient(target: &[f64]) -> Vec<f64> {
    student().iter().zip(target).map(|(student, target)| student - target).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum::<f64>() / norm(one) / norm(other)
}

#[test]
fn ten_thousand_redraws_have_the_teacher_as_their_mean() -> Outcome {
    let rows = rows(LogitsCodec::RandomSampling { draws: DRAWS, sets: REDRAWS })?;
    let (teacher, counts, draws) = (teacher(), counts(&rows), f64::from(DRAWS * REDRAWS));
    let deviation = largest_deviation(&counts, &teacher, draws);
    println!("largest deviation: {deviation:.2} standard deviations");
    assert!(deviation < MOST_DEVIATIONS, "{deviation}");

    let mean: Vec<f64> = counts.iter().map(|count| count / draws).collect();
    let cosine = cosine(&gradient(&mean), &gradient(&teacher));
    println!("cosine of the mean gradient to the dense one: {cosine:.7}");
    assert!(cosine > 0.999, "{cosine}");

    // The error of a mean of M draws goes with 1/√M.
    let error = |redraws: usize| {
        let mean =
            self::counts(&rows[..redraws]).iter().map(|count| count / (redraws as f64 * 50.0)).collect::<Vec<_>>();
        norm(&mean.iter().zip(&teacher).map(|(mean, teacher)| mean - teacher).collect::<Vec<_>>())
    };
    let ratio = error(100) / error(10_000);
    println!("error of 100 redraws over that of 10,000: {ratio:.2}");
    assert!((6.0..16.0).contains(&ratio), "{ratio}");
    Ok(())
}

#[test]
fn the_twelve_most_probable_ids_fail_the_same_test() -> Outcome {
    let rows = rows(TOP_K)?;
    let kept: f64 = rows[0].floats.iter().map(|log| f64::from(*log).exp()).sum::<f64>() / POSITIONS as f64;
    let (teacher, draws) = (teacher(), f64::from(DRAWS * REDRAWS));
    let mut mean = vec![0.0; POSITIONS * VOCAB_SIZE];
    for (target, (places, floats)) in rows[0].places.chunks(12).zip(rows[0].floats.chunks(12)).enumerate() {
        let sum: f64 = floats.iter().map(|log| f64::from(*log).exp()).sum();
        assert!(places.iter().all(|place| *place as usize / VOCAB_SIZE == target));
        places.iter().zip(floats).for_each(|(place, log)| mean[*place as usize] = f64::from(*log).exp() / sum);
    }
    let counts: Vec<f64> = mean.iter().map(|mean| mean * draws).collect();
    let deviation = largest_deviation(&counts, &teacher, draws);
    let cosine = cosine(&gradient(&mean), &gradient(&teacher));
    println!("top-12 keeps {kept:.3}: largest deviation {deviation:.0}, cosine {cosine:.4}");
    assert!(deviation > 10.0 * MOST_DEVIATIONS, "{deviation}");
    assert!(cosine < 0.99, "{cosine}");
    Ok(())
}

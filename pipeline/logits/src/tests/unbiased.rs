//! Random sampling has the teacher as its mean; the most probable ids alone have not.

use super::*;
use crate::encode::{Row, encode};

const REDRAWS: u32 = 10_000;
const DRAWS: u32 = 50;
const POSITIONS: usize = 7;
/// Normal deviates: with at most 7 · 97 ids tested, 5 standard errors are a chance of 679 · 5.7e-7 = 4e-4 (Bonferroni) that a
/// right sampler fails.
const MOST_ERRORS: f64 = 5.0;

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

/// Counts of one redraw, `[positions, vocab_size]`.
fn counts(row: &Row) -> Vec<f64> {
    let mut counts = vec![0.0; POSITIONS * VOCAB_SIZE];
    row.places.iter().zip(&row.counts).for_each(|(place, count)| counts[*place as usize] = f64::from(*count));
    counts
}

/// The redraws' mean target, `[positions, vocab_size]`.
fn mean(redraws: &[Vec<f64>]) -> Vec<f64> {
    let mut sums = vec![0.0; POSITIONS * VOCAB_SIZE];
    for redraw in redraws {
        sums.iter_mut().zip(redraw).for_each(|(sum, count)| *sum += count);
    }
    sums.iter().map(|sum| sum / (redraws.len() as f64 * f64::from(DRAWS))).collect()
}

/// The largest distance of an id's mean count from its expectation, in standard errors: of the redraws' own variance, and of
/// one draw in all of them at least. Ids that are expected fewer than 20 times at a position are taken as one.
fn largest_error(redraws: &[Vec<f64>], teacher: &[f64]) -> f64 {
    let number = redraws.len() as f64;
    let error = |places: &[usize]| {
        let expected = places.iter().map(|place| teacher[*place]).sum::<f64>() * f64::from(DRAWS);
        let of = |redraw: &Vec<f64>| places.iter().map(|place| redraw[*place]).sum::<f64>() - expected;
        let distances: Vec<f64> = redraws.iter().map(of).collect();
        let mean = distances.iter().sum::<f64>() / number;
        let variance = distances.iter().map(|distance| (distance - mean).powi(2)).sum::<f64>() / number;
        mean.abs() / (variance.max(number.recip()) / number).sqrt()
    };
    let of_position = |position: usize| {
        let ids: Vec<usize> = (position * VOCAB_SIZE..(position + 1) * VOCAB_SIZE).collect();
        let (often, seldom): (Vec<usize>, Vec<usize>) =
            ids.into_iter().partition(|place| teacher[*place] * f64::from(DRAWS) * number >= 20.0);
        often.chunks(1).map(error).fold(error(&seldom), f64::max)
    };
    (0..POSITIONS).map(of_position).fold(0.0, f64::max)
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

/// The mean squared distance of a target from the teacher, of one redraw.
fn noise(redraws: &[Vec<f64>], teacher: &[f64]) -> f64 {
    let of = |redraw: &Vec<f64>| norm(&differences(&mean(std::slice::from_ref(redraw)), teacher)).powi(2);
    redraws.iter().map(of).sum::<f64>() / redraws.len() as f64
}

fn differences(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one - other).collect()
}

#[test]
fn ten_thousand_redraws_have_the_teacher_as_their_mean() -> Outcome {
    let rows = rows(LogitsCodec::RandomSampling { draws: DRAWS, sets: REDRAWS })?;
    let redraws: Vec<Vec<f64>> = rows.iter().map(counts).collect();
    let teacher = teacher();
    let error = largest_error(&redraws, &teacher);
    println!("largest error: {error:.2} standard errors");
    assert!(error < MOST_ERRORS, "{error}");

    let cosine = cosine(&gradient(&mean(&redraws)), &gradient(&teacher));
    println!("cosine of the mean gradient to the dense one: {cosine:.7}");
    assert!(cosine > 0.999, "{cosine}");

    // The error of a mean of M draws goes with 1/√M.
    let error = |number: usize| norm(&differences(&mean(&redraws[..number]), &teacher));
    let ratio = error(100) / error(10_000);
    println!("error of 100 redraws over that of 10,000: {ratio:.2}");
    assert!((6.0..16.0).contains(&ratio), "{ratio}");

    // Draws apart from each other have a variance of p (1 - p) / draws for each id.
    let apart = teacher.iter().map(|p| p * (1.0 - p)).sum::<f64>() / f64::from(DRAWS);
    let share = noise(&redraws, &teacher) / apart;
    println!("noise of a target: {share:.2} of that of draws apart from each other");
    assert!(share < 0.8, "{share}");
    Ok(())
}

#[test]
fn the_twelve_most_probable_ids_fail_the_same_test() -> Outcome {
    let rows = rows(TOP_K)?;
    let kept: f64 = rows[0].floats.iter().map(|log| f64::from(*log).exp()).sum::<f64>() / POSITIONS as f64;
    let teacher = teacher();
    let mut target = vec![0.0; POSITIONS * VOCAB_SIZE];
    for (index, (places, floats)) in rows[0].places.chunks(12).zip(rows[0].floats.chunks(12)).enumerate() {
        let sum: f64 = floats.iter().map(|log| f64::from(*log).exp()).sum();
        assert!(places.iter().all(|place| *place as usize / VOCAB_SIZE == index));
        places.iter().zip(floats).for_each(|(place, log)| target[*place as usize] = f64::from(*log).exp() / sum);
    }
    let counts: Vec<f64> = target.iter().map(|share| share * f64::from(DRAWS)).collect();
    let error = largest_error(&vec![counts; REDRAWS as usize], &teacher);
    let cosine = cosine(&gradient(&target), &gradient(&teacher));
    println!("top-12 keeps {kept:.3}: largest error {error:.0}, cosine {cosine:.4}");
    assert!(error > 10.0 * MOST_ERRORS, "{error}");
    assert!(cosine < 0.99, "{cosine}");
    Ok(())
}

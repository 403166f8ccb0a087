//! What is said of a measurement: a table for people, an object for programs.

use std::fmt;

use limbeck_config::{Precision, Recompute};
use limbeck_kernels::{Peak, Profile, simd_level};
use serde::Serialize;

use crate::bench::measure::{Measurement, WARMUP_STEPS};
use crate::bench::memory::peak_resident_bytes;
use crate::bench::shape::BenchModel;

/// A measured model. Its fields are the keys of the object that `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// As `--model` takes it.
    pub model: &'static str,
    /// Numbers that were trained.
    pub parameters: usize,
    /// Rows of a step.
    pub rows: usize,
    /// Tokens of a row.
    pub sequence_length: usize,
    /// Arithmetic, as `train.precision` takes it.
    pub precision: Precision,
    /// What the backward pass computed again, as `train.recompute` takes it.
    pub recompute: Recompute,
    /// Where it was computed.
    pub device: String,
    /// Vector instructions of the CPU's operators.
    pub simd_level: Option<&'static str>,
    /// Threads that reached the peak, where one was measured.
    pub threads: Option<usize>,
    /// Steps before the measured ones.
    pub warmup_steps: usize,
    /// Measured steps.
    pub steps: usize,
    /// Mean loss of every step's tokens before its update, from the first step on, those before the measured ones too.
    pub losses_nats: Vec<f32>,
    /// Seconds of a step.
    pub step_s: Spread,
    /// Tokens a second.
    pub tokens_per_s: Spread,
    /// Useful operations of a step, in billions: see [`Shape::step_flops`](crate::bench::Shape::step_flops).
    pub gflop_per_step: f64,
    /// The same a second, of the median step.
    pub gflop_per_s: f64,
    /// What all threads of the CPU reach together, where it is measured.
    pub peak_gflop_per_s: Option<f64>,
    /// `gflop_per_s` over `peak_gflop_per_s`.
    pub share_of_peak: Option<f64>,
    /// The most that was resident at a time; known on Linux.
    pub peak_resident_bytes: Option<u64>,
    /// Where the measured steps' time went: sums to 1.
    pub shares: Vec<Share>,
}

/// The steps in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The one in the middle, or the mean of two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// Part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// An operator, or [`OUTSIDE`].
    pub operator: &'static str,
    /// Part of the step.
    pub direction: Option<&'static str>,
    /// From 0 to 1.
    pub share: f64,
}

/// What no operator reports: Burn's own operations, autodiff's graph, the trainer.
const OUTSIDE: &str = "outside the operators";

impl Spread {
    /// Of at least one number.
    pub(crate) fn of(numbers: &[f64]) -> Self {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        Self { median: (sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0, min: sorted[0], max: sorted[last] }
    }

    /// `numerator` over each: the largest becomes the smallest.
    fn divide(self, numerator: f64) -> Self {
        Self { median: numerator / self.median, min: numerator / self.max, max: numerator / self.min }
    }
}

impl Report {
    pub(crate) fn new(
        model: BenchModel,
        precision: Precision,
        recompute: Recompute,
        device: String,
        measurement: &Measurement,
        peak: Option<Peak>,
    ) -> Self {
        let shape = model.shape();
        let step_s = Spread::of(&measurement.seconds);
        let gflop_per_step = shape.step_flops() as f64 / 1e9;
        let gflop_per_s = gflop_per_step / step_s.median;
        let peak_gflop_per_s = peak.map(|peak| peak.flops_per_s / 1e9);
        Self {
            model: model.name(),
            parameters: shape.config.parameter_count(),
            rows: shape.rows,
            sequence_length: shape.sequence_length,
            precision,
            recompute,
            device,
            simd_level: simd_level().ok(),
            threads: peak.map(|peak| peak.threads),
            warmup_steps: WARMUP_STEPS,
            steps: measurement.seconds.len(),
            losses_nats: measurement.losses_nats.clone(),
            step_s,
            tokens_per_s: step_s.divide(shape.tokens() as f64),
            gflop_per_step,
            gflop_per_s,
            peak_gflop_per_s,
            share_of_peak: peak_gflop_per_s.map(|peak| gflop_per_s / peak),
            peak_resident_bytes: peak_resident_bytes(),
            shares: shares(&measurement.profile, measurement.seconds.iter().sum()),
        }
    }
}

fn shares(profile: &Profile, seconds: f64) -> Vec<Share> {
    let mut shares: Vec<Share> = profile
        .rows()
        .map(|(operator, direction, time)| Share {
            operator: operator.name(),
            direction: Some(direction.name()),
            share: time.as_secs_f64() / seconds,
        })
        .collect();
    let outside = 1.0 - profile.total().as_secs_f64() / seconds;
    shares.push(Share { operator: OUTSIDE, direction: None, share: outside });
    shares
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{}: {} parameters, {} rows of {} tokens, {} on {}, {} steps after {}",
            self.model,
            self.parameters,
            self.rows,
            self.sequence_length,
            self.precision.name(),
            self.device,
            self.steps,
            self.warmup_steps
        )?;
        let mut row = |name: &str, value: String| writeln!(formatter, "  {name:<24}{value}");
        let Spread { median, min, max } = self.tokens_per_s;
        row("tokens/s", format!("{median:.0} ({min:.0} to {max:.0})"))?;
        row("milliseconds a step", format!("{:.1}", 1e3 * self.step_s.median))?;
        row("useful GFLOP/s", format!("{:.1} ({:.1} GFLOP a step)", self.gflop_per_s, self.gflop_per_step))?;
        if let (Some(peak), Some(share), Some(threads)) = (self.peak_gflop_per_s, self.share_of_peak, self.threads) {
            let peak = format!("{:.1} % of {peak:.0} GFLOP/s on {threads} threads", 100.0 * share);
            row("of the measured peak", peak)?;
        }
        if let Some(bytes) = self.peak_resident_bytes {
            row("peak memory", format!("{:.0} MB", bytes as f64 / 1e6))?;
        }
        for Share { operator, direction, share } in &self.shares {
            let name = [operator, direction.unwrap_or_default()].join(" ");
            row(name.trim_end(), format!("{:5.1} %", 100.0 * share))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(&[3.0, 1.0, 8.0]), Spread { median: 3.0, min: 1.0, max: 8.0 });
        assert_eq!(Spread::of(&[4.0, 1.0, 8.0, 2.0]), Spread { median: 3.0, min: 1.0, max: 8.0 });
        assert_eq!(Spread::of(&[0.5]), Spread { median: 0.5, min: 0.5, max: 0.5 });
    }

    #[test]
    fn the_fastest_step_has_the_most_tokens_a_second() {
        let spread = Spread::of(&[0.5, 0.25, 2.0]).divide(100.0);
        assert_eq!(spread, Spread { median: 200.0, min: 50.0, max: 400.0 });
    }

    #[test]
    fn numbers_come_from_the_median_step_and_the_peak() {
        let measurement =
            Measurement { losses_nats: vec![4.0; 6], seconds: vec![0.004, 0.002, 0.003], profile: Profile::default() };
        let peak = Peak { flops_per_s: 4e9, threads: 2 };
        let report =
            Report::new(BenchModel::Tiny, Precision::Fp32, Recompute::None, "cpu".into(), &measurement, Some(peak));
        // 6 · 12,454 · 66 + 12 · 2 · 24 · 759 operations in 3 ms.
        assert!((report.gflop_per_s - 5_368_968e-9 / 0.003).abs() < 1e-9, "{}", report.gflop_per_s);
        assert!((report.share_of_peak.unwrap() - report.gflop_per_s / 4.0).abs() < 1e-12);
        assert_eq!(report.tokens_per_s.median, 66.0 / 0.003);
        assert_eq!(report.shares, [Share { operator: OUTSIDE, direction: None, share: 1.0 }]);
    }
}

//! The learning rate, a pure function of the optimizer step.

use limbeck_config::ScheduleSection;

/// The factor on the peak learning rate at `step`, counted from 0, of `max_steps`.
///
/// Warm-up is linear and reaches 1 at its last step. The cosine and the linear decay reach `final_ratio` at the last step.
pub fn learning_rate(schedule: &ScheduleSection, step: u64, max_steps: u64) -> f64 {
    let (ScheduleSection::Cosine { warmup_steps, .. } | ScheduleSection::WarmupStableDecay { warmup_steps, .. }) =
        *schedule;
    if step < warmup_steps {
        return (step + 1) as f64 / warmup_steps as f64;
    }
    match *schedule {
        ScheduleSection::Cosine { final_ratio, .. } => {
            let progress = fraction(step - warmup_steps, max_steps.saturating_sub(warmup_steps));
            final_ratio + (1.0 - final_ratio) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
        }
        ScheduleSection::WarmupStableDecay { decay_steps, final_ratio, .. } => {
            let stable = max_steps.saturating_sub(decay_steps);
            let progress = if step < stable { 0.0 } else { fraction(step - stable + 1, decay_steps + 1) };
            1.0 - (1.0 - final_ratio) * progress
        }
    }
}

/// 1 at the last of `steps`, counted from 0.
fn fraction(step: u64, steps: u64) -> f64 {
    (step as f64 / steps.saturating_sub(1).max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_warms_up_peaks_and_ends_at_its_ratio() {
        let schedule = ScheduleSection::Cosine { warmup_steps: 4, final_ratio: 0.1 };
        let at = |step| learning_rate(&schedule, step, 15);
        assert_eq!([at(0), at(3), at(4)], [0.25, 1.0, 1.0]);
        // Half-way between step 4 and step 14.
        assert!((at(9) - 0.55).abs() < 1e-12);
        assert!((at(14) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn the_stable_phase_is_flat_and_the_decay_is_linear() {
        let schedule = ScheduleSection::WarmupStableDecay { warmup_steps: 2, decay_steps: 4, final_ratio: 0.2 };
        let at = |step| learning_rate(&schedule, step, 12);
        assert_eq!([at(0), at(1), at(5), at(7)], [0.5, 1.0, 1.0, 1.0]);
        for (step, expected) in [(8, 0.8), (9, 0.6), (10, 0.4), (11, 0.2)] {
            assert!((at(step) - expected).abs() < 1e-12, "{step}: {}", at(step));
        }
    }
}

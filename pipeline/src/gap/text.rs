//! The report as Markdown.

use std::fmt::Write as _;

use limbeck_train::Comparison;

use crate::control::Control;
use crate::gap::{Arm, Cost, Gap, Twin};

/// `siblings` are the reports of the same setting with other seeds.
pub(super) fn markdown(gap: &Gap, siblings: &[Gap]) -> String {
    let mut text = format!("# The gap on {}\n\n", gap.data.join(", "));
    text += "| model | nats/token | bits/byte | top-1 as the teacher's | KL to the teacher | calibration error | parameters \
             | bytes | tokens | GFLOP | seconds |\n";
    text += &("|---".repeat(11) + "|\n");
    if let Some(teacher) = &gap.teacher {
        row(&mut text, "teacher", &teacher.comparison, Some(teacher));
    }
    if let Some(before) = &gap.before {
        row(&mut text, "student before", before, None);
    }
    row(&mut text, "student distilled", &gap.student.comparison, Some(&gap.student));
    for twin in &gap.twins {
        row(&mut text, twin.control.title(), &twin.arm.comparison, Some(&twin.arm));
    }
    let _ = writeln!(
        text,
        "\n{} targets. GFLOP and seconds are those of the student's training with its teacher's forward passes; seconds leave a \
         capture out.",
        gap.student.comparison.target_tokens
    );
    for twin in &gap.twins {
        let better = gap.better_by(twin);
        let _ = write!(text, "\nAgainst {}: better by {better:.4} nats a token", twin.control.title());
        match gap.share_closed(twin) {
            Some(share) => {
                let _ = writeln!(text, ", {:.1} % of the gap to the teacher.", 100.0 * share);
            }
            None => text += "; there is no gap to the teacher that could be closed.\n",
        }
        text += &spread(gap, siblings, twin.control);
    }
    if gap.twins.is_empty() {
        text += "\nHow much of the gap is closed shows against the student's twin: run `distill` with `--control`, and with \
                 `--control=compute` for one at equal compute.\n";
    }
    text
}

fn row(text: &mut String, name: &str, comparison: &Comparison, arm: Option<&Arm>) {
    let Comparison { loss_nats, bits_per_byte, agreement, kl_nats, calibration_error, .. } = comparison;
    let share = agreement.map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let kl = kl_nats.map_or("–".to_owned(), |kl| format!("{kl:.4}"));
    let _ = write!(text, "| {name} | {loss_nats:.4} | {bits_per_byte:.4} | {share} | {kl} | {calibration_error:.4} |");
    match arm {
        Some(Arm { parameters, bytes, .. }) => {
            let _ = write!(text, " {parameters} | {bytes} |");
        }
        None => *text += " | |",
    }
    match arm.map(|arm| arm.cost).filter(|cost| cost.tokens > 0) {
        Some(Cost { tokens, flops, seconds }) => {
            let _ = writeln!(text, " {tokens} | {:.0} | {seconds:.1} |", flops / 1e9);
        }
        None => *text += " | | |\n",
    }
}

/// Mean and standard deviation over the seeds that have this twin, where there are several.
fn spread(gap: &Gap, siblings: &[Gap], control: Control) -> String {
    let with_twin = |gap| Some((gap, Gap::twin(gap, control)?));
    let found: Vec<(&Gap, &Twin)> = std::iter::once(gap).chain(siblings).filter_map(with_twin).collect();
    if found.len() < 2 {
        return String::new();
    }
    let better: Vec<f64> = found.iter().map(|(gap, twin)| gap.better_by(twin)).collect();
    let (mean, deviation) = mean_and_deviation(&better);
    let mut text = format!("Over {} seeds: better by {mean:.4} ± {deviation:.4} nats", found.len());
    let shares: Option<Vec<f64>> = found.iter().map(|(gap, twin)| gap.share_closed(twin)).collect();
    if let Some(shares) = shares {
        let (mean, deviation) = mean_and_deviation(&shares);
        let _ = write!(text, ", {:.1} ± {:.1} % of the gap", 100.0 * mean, 100.0 * deviation);
    }
    text + " (mean ± standard deviation).\n"
}

/// Of a sample of at least 2.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}

//! The tables of a card.

use std::fmt::Write as _;

use limbeck_train::Comparison;

use super::{Card, Row};
use crate::fit::{CacheType, EnergyClass, Verdict};

impl Card<'_> {
    /// One table for a terminal: size, memory, tokens a second, loss.
    pub fn summary(&self) -> String {
        let mut text = format!("device card, {} tokens of context, tokens/s expected, energy class", self.context);
        text += if self.budget.is_given() { ", against the budget:\n" } else { ":\n" };
        text += "| format | file | resident |";
        for device in &self.devices {
            let _ = write!(text, " {} |", device.title);
        }
        let measured = self.record.held_out.is_some();
        text += if measured { " KL, nats/token | bits/byte |\n" } else { "\n" };
        text += &columns(3 + self.devices.len() + if measured { 2 } else { 0 });
        for row in &self.rows {
            let resident = row.footprint.memory.resident_bytes(CacheType::F16);
            let _ = write!(text, "| {} | {} | {} |", row.format.name(), bytes(row.file.bytes), bytes(resident));
            text += &self.speeds(row, false);
            if measured {
                let _ = write!(text, " {} |", loss_cells(row.file.held_out.as_ref()));
            }
            text += "\n";
        }
        text
    }

    /// A cell for each device.
    fn speeds(&self, row: &Row, with_bound: bool) -> String {
        let mut text = String::new();
        for device in &self.devices {
            let traffic = &row.footprint.traffic;
            let (speed, joules) = (traffic.speed(device), traffic.joules(device));
            let judgement = self.budget.judge(self.shape, &row.footprint, device);
            let verdict = match judgement.reason {
                Some(reason) => format!("{} ({reason})", judgement.verdict),
                None => Verdict::Fits.to_string(),
            };
            let expected = digits(1.0 / speed.expected_s);
            let _ = match with_bound {
                true => {
                    let (bound, energy) = (digits(1.0 / speed.bound_s), digits(1e3 * joules));
                    write!(text, " {expected} of {bound}, {energy} mJ ({}), {verdict} |", EnergyClass::of(joules))
                }
                false => write!(text, " {expected} {} {verdict} |", EnergyClass::of(joules)),
            };
        }
        text
    }

    /// File, memory and traffic of each format.
    pub(super) fn memory_table(&self) -> String {
        let mut text = String::from(
            "| format | file | weights | cache, 16 bits | cache, q8_0 | activations | resident | resident, q8_0 cache | \
             prompt, GFLOP | read a token |\n",
        );
        text += &columns(10);
        for row in &self.rows {
            let (memory, traffic) = (&row.footprint.memory, &row.footprint.traffic);
            let sizes = [
                row.file.bytes,
                memory.weights,
                memory.cache_bytes(CacheType::F16),
                memory.cache_bytes(CacheType::Q8_0),
                memory.activations,
                memory.resident_bytes(CacheType::F16),
                memory.resident_bytes(CacheType::Q8_0),
            ];
            let sizes: Vec<String> = sizes.into_iter().map(bytes).collect();
            let (flops, read) = (digits(traffic.prefill_flops as f64 / 1e9), bytes(traffic.bytes));
            let _ = writeln!(text, "| `{}` | {} | {flops} | {read} |", row.file.path.display(), sizes.join(" | "));
        }
        text
    }

    /// Tokens a second, energy and verdict of each format on each device.
    pub(super) fn speed_table(&self) -> String {
        let mut text = String::from("| format |");
        for device in &self.devices {
            let _ = write!(text, " {} |", device.title);
        }
        text += "\n";
        text += &columns(1 + self.devices.len());
        for row in &self.rows {
            let _ = writeln!(text, "| `{}` |{}", row.file.path.display(), self.speeds(row, true));
        }
        text
    }

    /// What each format loses; `None` where nothing was measured.
    pub(super) fn loss_table(&self) -> Option<String> {
        let held_out = self.record.held_out.as_ref()?;
        let mut text =
            String::from("| format | KL to the checkpoint, nats/token | bits/byte | top-1 as the checkpoint's |\n");
        text += &columns(4);
        let _ = writeln!(text, "| the checkpoint | 0 | {:.4} | 100 % |", held_out.checkpoint.bits_per_byte);
        for row in &self.rows {
            let comparison = row.file.held_out.as_ref();
            let agreement = comparison.and_then(|comparison| comparison.agreement);
            let agreement = agreement.map_or("–".to_owned(), |share| format!("{:.2} %", 100.0 * share));
            let _ = writeln!(text, "| `{}` | {} | {agreement} |", row.file.path.display(), loss_cells(comparison));
        }
        Some(text)
    }
}

/// KL and bits per byte.
fn loss_cells(comparison: Option<&Comparison>) -> String {
    let Some(Comparison { kl_nats, bits_per_byte, .. }) = comparison else { return "– | –".to_owned() };
    // Rounding makes a hair less than nothing of a KL that is nothing.
    let kl = kl_nats.map_or("–".to_owned(), |kl| format!("{:.1e}", kl.max(0.0)));
    format!("{kl} | {bits_per_byte:.4}")
}

/// The line under the heads of a table.
pub(super) fn columns(count: usize) -> String {
    "|---".repeat(count) + "|\n"
}

/// In 10⁶ or 10⁹ bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes >= 1e3 { format!("{} GB", digits(megabytes / 1e3)) } else { format!("{} MB", digits(megabytes)) }
}

/// Three digits that mean something.
pub(crate) fn digits(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([1234.6, 99.96, 12.34, 1.234, 0.0123].map(digits), ["1235", "100.0", "12.3", "1.23", "0.01"]);
        assert_eq!([850_000, 33_927_680, 2_500_000_000].map(bytes), ["0.85 MB", "33.9 MB", "2.50 GB"]);
    }
}

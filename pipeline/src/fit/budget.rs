//! What a model may take: `memory=1GB,latency=50ms,context=4096,device=laptop`.

use std::fmt;
use std::str::FromStr;

use limbeck_config::{ModelConfig, nearest};
use serde::Serialize;

use super::device::{Device, devices};
use super::memory::CacheType;
use super::{Footprint, Speed};

/// The keys, in the order in which they are listed.
const KEYS: [&str; 4] = ["memory", "latency", "context", "device"];

const MEMORY_UNITS: [(&str, f64); 7] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1024.0 * 1024.0),
    ("GiB", 1024.0 * 1024.0 * 1024.0),
];

const TIME_UNITS: [(&str, f64); 3] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];

/// Over this share of the budget's memory it is tight: activations and the program are estimates.
const TIGHT_MEMORY: f64 = 0.8;

/// Shares of a device's memory that one program gets without, and with, others being closed for it.
const FITTING_SHARE: f64 = 0.5;
const TIGHT_SHARE: f64 = 0.6;

/// Limits; what is not given is not one, but for the device's own memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// Resident memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Of a token.
    pub latency_s: Option<f64>,
    /// Tokens that must have room.
    pub context: Option<usize>,
    /// Where it must hold; default: everywhere.
    pub device: Option<Device>,
}

/// Why a text is no budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetError(String);

impl fmt::Display for BudgetError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BudgetError {}

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let mut budget = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((key, value)) = part.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
                return refused(format!("`{part}` is not key=value"), "write `memory=1GB,latency=50ms,context=4096`");
            };
            if seen.contains(&key) {
                return refused(format!("`{key}` is given twice"), "keep one of them");
            }
            seen.push(key);
            match key {
                "memory" => budget.memory_bytes = Some(quantity(key, value, &MEMORY_UNITS, "1GB")? as u64),
                "latency" => budget.latency_s = Some(quantity(key, value, &TIME_UNITS, "50ms")?),
                "context" => budget.context = Some(context(value)?),
                "device" => budget.device = Some(device(value)?),
                unknown => return refused(format!("`{unknown}` is not a key of a budget"), &meant(unknown, &KEYS)),
            }
        }
        Ok(budget)
    }
}

fn refused<T>(problem: String, hint: &str) -> Result<T, BudgetError> {
    Err(BudgetError(format!("{problem}; hint: {hint}")))
}

/// The names that somebody may have meant, or all.
fn meant(word: &str, names: &[&str]) -> String {
    let quoted =
        |names: &[&str], between: &str| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between);
    match nearest(word, names.iter().copied()).as_slice() {
        [] => format!("there are {}", quoted(names, ", ")),
        near => format!("did you mean {}", quoted(near, " or ")),
    }
}

/// A number over 0 with a unit, in the unit whose factor is 1.
fn quantity(key: &str, value: &str, units: &[(&str, f64)], example: &str) -> Result<f64, BudgetError> {
    let end = value.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(value.len());
    let (number, unit) = (&value[..end], value[end..].trim());
    let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    let listed = names.join(", ");
    let Ok(number) = number.parse::<f64>() else {
        return refused(
            format!("{key} is `{value}`, must be a number with a unit of {listed}"),
            &format!("such as `{example}`"),
        );
    };
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let same = names.iter().find(|name| name.eq_ignore_ascii_case(unit));
        let hint = same.map_or(format!("such as `{key}={example}`"), |same| format!("did you mean `{number}{same}`"));
        return refused(format!("{key} is `{value}`, must have a unit of {listed}"), &hint);
    };
    let quantity = number * factor;
    // Bytes are counted, and a count has its limit.
    if !(quantity > 0.0 && quantity < 1e18) {
        return refused(
            format!("{key} is `{value}`, must be over 0 and not astronomical"),
            &format!("such as `{example}`"),
        );
    }
    Ok(quantity)
}

fn context(value: &str) -> Result<usize, BudgetError> {
    match value.parse::<u32>() {
        Ok(tokens) if tokens > 0 => Ok(tokens as usize),
        _ => refused(format!("context is `{value}`, must be a number of tokens, at least 1"), "such as `context=4096`"),
    }
}

fn device(value: &str) -> Result<Device, BudgetError> {
    let names: Vec<&str> = devices().iter().map(|device| device.name.as_str()).collect();
    match devices().iter().find(|device| device.name == value) {
        Some(device) => Ok(device.clone()),
        None => refused(format!("device is `{value}`, must be a name of the table"), &meant(value, &names)),
    }
}

/// How a model stands to a budget, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// With room.
    Fits,
    /// Just, or under conditions.
    Tight,
    /// Not.
    DoesNotFit,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fits => "fits",
            Self::Tight => "tight",
            Self::DoesNotFit => "does not fit",
        })
    }
}

/// A verdict and what it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The worst of all limits.
    pub verdict: Verdict,
    /// The limit that decided; `None` where it fits.
    pub reason: Option<&'static str>,
}

impl Budget {
    /// The context that is judged: the budget's, or the longest of the model.
    pub fn context_for(&self, config: &ModelConfig) -> usize {
        self.context.unwrap_or(config.max_position_embeddings)
    }

    /// Whether there is a limit beside the device's own memory.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// How a model of shape `config` stands on `device`.
    ///
    /// ```text
    ///           fits                            tight
    /// memory    16-bit cache, ≤ 80 % of it      16-bit or 8-bit cache, ≤ all of it
    /// (device)  16-bit cache, ≤ 50 % of its     ≤ 60 % of its; without a memory in the budget
    /// latency   expected ≤ it                   bound ≤ it < expected
    /// context   ≤ max_position_embeddings
    /// ```
    pub fn judge(&self, config: &ModelConfig, footprint: &Footprint, device: &Device) -> Judgement {
        let length = match footprint.context <= config.max_position_embeddings {
            true => Verdict::Fits,
            false => Verdict::DoesNotFit,
        };
        let limits = [
            ("context", length),
            ("memory", self.memory(footprint, device)),
            ("latency", self.latency(footprint.traffic.speed(device))),
        ];
        // The first of the worst.
        let (reason, verdict) = limits.into_iter().rev().max_by_key(|(_, verdict)| *verdict).unwrap_or(limits[0]);
        Judgement { verdict, reason: (verdict != Verdict::Fits).then_some(reason) }
    }

    fn memory(&self, footprint: &Footprint, device: &Device) -> Verdict {
        let [whole, half] = [CacheType::F16, CacheType::Q8_0].map(|kind| footprint.memory.resident_bytes(kind) as f64);
        let (fitting, tight) = match self.memory_bytes {
            Some(bytes) => (TIGHT_MEMORY * bytes as f64, bytes as f64),
            None => (FITTING_SHARE * device.memory_bytes as f64, TIGHT_SHARE * device.memory_bytes as f64),
        };
        match () {
            () if whole <= fitting => Verdict::Fits,
            () if half <= tight => Verdict::Tight,
            () => Verdict::DoesNotFit,
        }
    }

    fn latency(&self, Speed { bound_s, expected_s }: Speed) -> Verdict {
        match self.latency_s {
            Some(latency) if bound_s > latency => Verdict::DoesNotFit,
            Some(latency) if expected_s > latency => Verdict::Tight,
            _ => Verdict::Fits,
        }
    }
}

#[cfg(test)]
mod tests;

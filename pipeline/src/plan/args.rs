//! The command line of `plan`.

use std::path::PathBuf;

use clap::Args;
use limbeck_config::ExportFormat;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};

use crate::device::DeviceChoice;
use crate::fit::Budget;

/// Arguments of `plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// What the student may take: `memory=1GB,latency=50ms,context=4096`, those that matter; with `device=laptop` there, else
    /// on every device of the table.
    #[arg(long, value_name = "LIMITS")]
    pub budget: Budget,
    /// The teacher, whose forward passes are part of the training: a step directory, a run directory (its newest valid step), a
    /// Hugging Face directory, or a GGUF file. Without one, the student learns from text alone.
    #[arg(long, value_name = "PATH")]
    pub teacher: Option<PathBuf>,
    /// Tokens of training data, such as `3e8`; epochs after the first are worth less than new tokens.
    #[arg(long, value_parser = count)]
    pub tokens: f64,
    /// Tokens that the student will read and write in its life.
    #[arg(long, value_parser = count, default_value = "0")]
    pub served_tokens: f64,
    /// How the student is stored, as `export.formats` has it.
    #[arg(long, value_parser = format, default_value = "gguf_q4_0")]
    pub format: ExportFormat,
    /// Entries of the student's tokenizer; default: the teacher's.
    #[arg(long)]
    pub vocab_size: Option<usize>,
    /// Tokens of a row in training.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    pub sequence_length: u32,
    /// How much worse than the best that fits a choice may be, in nats a token.
    #[arg(long, default_value_t = 0.02, value_parser = tolerance)]
    pub within: f64,
    /// Speed of training in 10⁹ useful operations a second; default: measured on this machine, in a second or two.
    #[arg(long, value_parser = positive)]
    pub gflops: Option<f64>,
    /// Shapes that are listed.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: u32,
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Where to measure the speed.
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
}

/// A number of tokens: `3e8`, `300_000_000`.
fn count(text: &str) -> Result<f64, String> {
    match text.replace('_', "").parse::<f64>() {
        Ok(count) if (0.0..=1e18).contains(&count) => Ok(count),
        _ => Err("must be a number of tokens, such as `3e8`".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("must be a number over `0`".to_owned()),
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(nats) if (0.0..=10.0).contains(&nats) => Ok(nats),
        _ => Err("must be from `0` to `10`, in nats".to_owned()),
    }
}

fn format(text: &str) -> Result<ExportFormat, String> {
    let word: StrDeserializer<WordError> = text.into_deserializer();
    ExportFormat::deserialize(word).map_err(|error| error.to_string())
}

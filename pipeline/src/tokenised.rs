//! Opening the data of a stage.

use std::io::IsTerminal;

use limbeck_config::{DataEntry, TrainingConfig};
use limbeck_data::{Mixture, Tokenizer};

use crate::failure::Failure;

/// The rows of `entries`, tokenised now or found in the cache. Says on stderr what was skipped.
///
/// # Errors
/// If the data cannot be read.
pub fn open(config: &TrainingConfig, entries: &[DataEntry], tokenizer: &Tokenizer) -> Result<Mixture, Failure> {
    let data = &config.data;
    let mixture =
        Mixture::open(entries, tokenizer, data.sequence_length, config.seed(), &data.cache, &show).map_err(Failure::usage)?;
    for line in mixture.report().warnings() {
        eprintln!("warning: {line}");
    }
    Ok(mixture)
}

fn show(progress: limbeck_data::Progress) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{progress}\x1b[K");
    }
}

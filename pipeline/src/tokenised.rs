//! Opening the data of a stage.

use std::io::{IsTerminal, Write};

use limbeck_config::{DataEntry, TrainingConfig};
use limbeck_data::{EntryReport, Mixture, Progress, ProgressState, Tokenizer};
use limbeck_train::say;

use crate::failure::Failure;

/// The rows of `entries`, tokenised now or found in the cache. Says on stderr what was skipped.
///
/// # Errors
/// If the data cannot be read.
pub fn open(config: &TrainingConfig, entries: &[DataEntry], tokenizer: &Tokenizer) -> Result<Mixture, Failure> {
    let data = &config.data;
    let mixture = Mixture::open(entries, tokenizer, data.sequence_length, config.seed(), &data.cache, &show)
        .map_err(Failure::usage)?;
    warn(&mixture);
    Ok(mixture)
}

/// A line on stderr for each thing that was left out or cut.
pub fn warn(mixture: &Mixture) {
    mixture.report().iter().for_each(warn_of);
}

fn warn_of(entry: &EntryReport) {
    let counts = [
        (entry.skipped_null, "rows without a value were skipped"),
        (entry.skipped_empty, "rows without text were skipped"),
        (entry.cut_chats, "chats are longer than data.sequence_length and were cut"),
        (entry.dropped_segments, "pieces without a target token were left out"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        say!("warning: `{}`: {count} {what}", entry.path);
    }
}

/// What an entry came to, in one line.
pub fn describe(entry: &EntryReport) -> String {
    let EntryReport { path, documents, tokens, target_tokens, rows, padding_share, .. } = entry;
    let padding = 100.0 * padding_share;
    format!(
        "{path}: {documents} documents, {tokens} tokens, {target_tokens} targets, {rows} rows, {padding:.1} % padding"
    )
}

/// A line that the next one overwrites, on a terminal only.
pub(crate) fn show(progress: Progress) {
    if std::io::stderr().is_terminal() && progress.state == ProgressState::Tokenizing {
        let (file, documents) = (progress.file.display(), progress.documents);
        // Nobody to see it is no error.
        let _ = write!(std::io::stderr(), "\rtokenising `{file}`: {documents} documents\x1b[K\r");
    }
}

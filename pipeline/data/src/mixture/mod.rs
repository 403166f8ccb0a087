//! Batches from a mixture of data entries, as a pure function of the seed and the row's number.

mod entry;
mod order;
mod rollouts;
mod rows;

use std::fmt;
use std::path::Path;

use limbeck_config::DataEntry;
use limbeck_random::Permutation;

use self::entry::Entry;
use self::order::{BLOCK, Block, epoch_seed};
use self::rows::RowWriter;
use crate::batch::Batch;
use crate::error::DataError;
use crate::shard::Progress;
use crate::tokenizer::Tokenizer;

pub use self::entry::EntryReport;
pub use self::rollouts::{Prompt, Rollout};

/// Data entries, tokenised and packed, mixed by weight.
///
/// The rows of a run are numbered from 0 without end. Row `i` belongs to an entry by its place in a block of 1024 rows,
/// in which every entry has exactly its share; it is the next of that entry's packed rows, which come in another order
/// each epoch. So a run that goes on needs to know only how many rows it has seen.
pub struct Mixture {
    entries: Vec<Entry>,
    counts: Vec<usize>,
    sequence_length: u32,
    seed: u64,
    padding: u32,
    fingerprint: String,
}

/// One entry's held-out rows.
pub struct EntryEvaluation<'a> {
    /// Path of the entry.
    pub path: String,
    /// UTF-8 bytes of the scored text: whole documents, or what the assistant says. Bits per byte are nats / ln 2 /
    /// bytes, the end-of-text or end-of-turn targets being part of the nats.
    pub scored_bytes: u64,
    /// Batches that hold every segment once, in one fixed order.
    pub batches: Box<dyn Iterator<Item = Batch> + Send + 'a>,
}

impl Mixture {
    /// Opens the entries: tokenises what the cache does not hold, cuts and packs. `progress` is told of each file.
    ///
    /// # Errors
    /// No entry, a weight without a share, a wrong length, whatever is wrong with a file, a full cache device.
    pub fn open(
        entries: &[DataEntry],
        tokenizer: &Tokenizer,
        sequence_length: usize,
        seed: u64,
        cache: &Path,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Mixture, DataError> {
        if entries.is_empty() {
            return Err(DataError::NoEntries);
        }
        let length = u32::try_from(sequence_length).ok().filter(|length| *length > 0);
        let length = length.ok_or(DataError::SequenceLength { value: sequence_length })?;
        let counts = order::counts(entries)?;
        let opened = entries
            .iter()
            .zip(&counts)
            .map(|(entry, rows)| Entry::open(entry, *rows, tokenizer, length, cache, progress))
            .collect::<Result<Vec<_>, _>>()?;
        let fingerprint = fingerprint(&opened, entries, length, seed);
        let padding = tokenizer.end_of_text();
        Ok(Mixture { entries: opened, counts, sequence_length: length, seed, padding, fingerprint })
    }

    /// Tokens in a row.
    pub fn sequence_length(&self) -> usize {
        self.sequence_length as usize
    }

    /// The `rows` rows from `first_row` on.
    pub fn batch(&self, first_row: u64, rows: usize) -> Batch {
        let mut writer = RowWriter::new(rows, self.sequence_length(), self.padding);
        let mut block = Block::around(first_row, &self.counts, self.seed);
        for place in (first_row..).take(rows) {
            if !block.holds(place) {
                block = Block::around(place, &self.counts, self.seed);
            }
            let (entry, index) = block.at(place, &self.counts);
            let (epoch, index) = (index / self.entry_rows(entry), index % self.entry_rows(entry));
            let order = Permutation::new(self.entry_rows(entry), epoch_seed(self.seed, entry, epoch));
            self.entries[entry].write_row(entry, order.apply(index) as usize, epoch, &mut writer);
        }
        writer.finish()
    }

    fn entry_rows(&self, entry: usize) -> u64 {
        self.entries[entry].rows.len() as u64
    }

    /// For each entry, its rows in one fixed order, each once, whatever its weight.
    pub fn evaluation(&self, rows_per_batch: usize) -> impl Iterator<Item = EntryEvaluation<'_>> {
        let size = rows_per_batch.max(1);
        self.entries.iter().enumerate().map(move |(index, entry)| {
            let batches = (0..entry.rows.len()).step_by(size).map(move |first| {
                let end = (first + size).min(entry.rows.len());
                let mut writer = RowWriter::new(end - first, self.sequence_length(), self.padding);
                (first..end).for_each(|row| entry.write_row(index, row, 0, &mut writer));
                writer.finish()
            });
            EntryEvaluation {
                path: entry.report.path.clone(),
                scored_bytes: entry.report.scored_bytes,
                batches: Box::new(batches),
            }
        })
    }

    /// Rows of one epoch over all entries: those of [`Mixture::fixed_batch`].
    pub fn fixed_rows(&self) -> u64 {
        (0..self.entries.len()).map(|entry| self.entry_rows(entry)).sum()
    }

    /// Segments in them.
    pub fn fixed_segments(&self) -> u64 {
        self.entries.iter().map(|entry| entry.rows.segments().len() as u64).sum()
    }

    /// The `rows` rows from `first_row` on of one fixed order, entry after entry, that neither weights nor seed change:
    /// every segment once, in the packed rows of which [`Mixture::batch`] makes its batches. Rows past the last are left
    /// out.
    pub fn fixed_batch(&self, first_row: u64, rows: usize) -> Batch {
        let end = self.fixed_rows().min(first_row.saturating_add(rows as u64)).max(first_row);
        let mut writer = RowWriter::new((end - first_row) as usize, self.sequence_length(), self.padding);
        let mut before = 0;
        for (index, entry) in self.entries.iter().enumerate() {
            let own = before..before + self.entry_rows(index);
            for row in first_row.max(own.start)..end.min(own.end) {
                entry.write_row(index, (row - own.start) as usize, 0, &mut writer);
            }
            before = own.end;
        }
        writer.finish()
    }

    /// BLAKE3 of all that decides the fixed rows: the shards' keys in their order and the length. Unlike
    /// [`Mixture::fingerprint`] it is the same for every seed and all weights.
    pub fn segments_fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"limbeck segments 1");
        for number in [u64::from(self.sequence_length), self.entries.len() as u64] {
            hasher.update(&number.to_le_bytes());
        }
        for entry in &self.entries {
            hasher.update(&(entry.report.files as u64).to_le_bytes());
            entry.shard_keys().for_each(|key| _ = hasher.update(key.as_bytes()));
        }
        hasher.finalize().to_hex().to_string()
    }

    /// BLAKE3 of all that decides the rows: the shards' keys, the weights, the length and the seed. Where the files lie
    /// and what they are called is no part of it.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// What each entry came to.
    pub fn report(&self) -> Vec<EntryReport> {
        self.entries.iter().map(|entry| entry.report.clone()).collect()
    }
}

impl fmt::Debug for Mixture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mixture").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

fn fingerprint(entries: &[Entry], configured: &[DataEntry], sequence_length: u32, seed: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"limbeck mixture 1");
    for number in [BLOCK as u64, u64::from(sequence_length), seed, entries.len() as u64] {
        hasher.update(&number.to_le_bytes());
    }
    for (entry, configured) in entries.iter().zip(configured) {
        hasher.update(&configured.weight.to_le_bytes());
        hasher.update(&(entry.report.files as u64).to_le_bytes());
        for key in entry.shard_keys() {
            hasher.update(key.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests;

//! One data entry: its shards and its packed rows.

use std::path::Path;

use limbeck_config::{DataEntry, DataKind};

use crate::batch::SegmentSpan;
use crate::error::DataError;
use crate::mixture::rows::RowWriter;
use crate::packing::PackedRows;
use crate::segment::{Segment, cut};
use crate::shard::{self, Progress, Shard};
use crate::source::{SourceReport, data_files};
use crate::tokenizer::Tokenizer;

/// What an entry came to.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryReport {
    /// As configured.
    pub path: String,
    /// What it holds.
    pub kind: DataKind,
    /// Rows in every 1024 of the mixture.
    pub rows_per_block: usize,
    /// Files that it was read from.
    pub files: usize,
    /// Documents or conversations.
    pub documents: u64,
    /// Rows left out because they have no value.
    pub skipped_null: u64,
    /// Rows left out because they have no text.
    pub skipped_empty: u64,
    /// Tokens, begin and end tokens included.
    pub tokens: u64,
    /// Targets of one epoch.
    pub target_tokens: u64,
    /// Conversations that are longer than a row, and so were cut.
    pub cut_chats: u64,
    /// Segments left out because they have no target.
    pub dropped_segments: u64,
    /// Packed rows of one epoch.
    pub rows: u64,
    /// Share of the rows' places that is padding, from 0 to 1.
    pub padding_share: f64,
    /// UTF-8 bytes of the texts that the targets spell.
    pub scored_bytes: u64,
}

/// A data entry, ready to give rows.
pub(super) struct Entry {
    shards: Vec<Shard>,
    /// Index in the entry of each shard's first document.
    first_documents: Vec<u64>,
    pub(super) rows: PackedRows,
    pub(super) report: EntryReport,
}

impl Entry {
    pub(super) fn open(
        entry: &DataEntry,
        rows_per_block: usize,
        tokenizer: &Tokenizer,
        sequence_length: u32,
        cache: &Path,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Entry, DataError> {
        let shards = data_files(entry)?
            .iter()
            .map(|file| shard::open(file, entry, tokenizer, cache, progress))
            .collect::<Result<Vec<_>, _>>()?;
        let mut source = SourceReport::default();
        let mut first_documents = Vec::with_capacity(shards.len());
        for shard in &shards {
            first_documents.push(source.documents);
            source += shard.report();
        }
        let SourceReport { documents, skipped_null, skipped_empty } = source;
        if documents == 0 {
            return Err(DataError::NoText { path: entry.path.clone(), skipped_null, skipped_empty });
        }
        let report = EntryReport {
            path: entry.path.clone(),
            kind: entry.kind,
            rows_per_block,
            files: shards.len(),
            documents,
            skipped_null,
            skipped_empty,
            tokens: shards.iter().map(Shard::tokens).sum(),
            target_tokens: 0,
            cut_chats: 0,
            dropped_segments: 0,
            rows: 0,
            padding_share: 0.0,
            scored_bytes: 0,
        };
        let mut entry = Entry { shards, first_documents, rows: PackedRows::default(), report };
        entry.pack(sequence_length)?;
        Ok(entry)
    }

    /// Cuts and packs the documents.
    fn pack(&mut self, sequence_length: u32) -> Result<(), DataError> {
        let mut segments = Vec::new();
        for (shard, first) in self.shards.iter().zip(&self.first_documents) {
            for document in 0..shard.documents() {
                let tokens = shard.range(document);
                // What follows the last target, such as the newline after the end of a turn, would only take place.
                let last = tokens.clone().rev().find(|place| shard.is_target(*place)).unwrap_or(tokens.start);
                let pairs = last - tokens.start;
                let is_chat = self.report.kind == DataKind::Chats;
                self.report.cut_chats += u64::from(is_chat && pairs > u64::from(sequence_length));
                self.report.scored_bytes += shard.scored_bytes(document);
                for segment in cut(first + document, pairs, sequence_length) {
                    let pair = tokens.start + u64::from(segment.segment) * u64::from(sequence_length);
                    let targets = pair + 1..pair + 1 + u64::from(segment.length);
                    let targets = targets.filter(|place| shard.is_target(*place)).count() as u64;
                    if targets == 0 {
                        self.report.dropped_segments += 1;
                    } else {
                        self.report.target_tokens += targets;
                        segments.push(segment);
                    }
                }
            }
        }
        if segments.is_empty() {
            return Err(DataError::NoTargets { path: self.report.path.clone() });
        }
        self.rows = PackedRows::pack(segments, sequence_length);
        self.report.rows = self.rows.len() as u64;
        let pairs: u64 = self.rows.segments().iter().map(|segment| u64::from(segment.length)).sum();
        self.report.padding_share = 1.0 - pairs as f64 / (self.report.rows * u64::from(sequence_length)) as f64;
        Ok(())
    }

    pub(super) fn shard_keys(&self) -> impl Iterator<Item = blake3::Hash> {
        self.shards.iter().map(Shard::key)
    }

    /// Writes a packed row; `entry` is this entry's index, `epoch` what its segments say.
    pub(super) fn write_row(&self, entry: usize, row: usize, epoch: u64, writer: &mut RowWriter) {
        for segment in self.rows.row(row) {
            self.write_segment(entry, segment, epoch, writer);
        }
        writer.end_row();
    }

    fn write_segment(&self, entry: usize, segment: &Segment, epoch: u64, writer: &mut RowWriter) {
        let shard_index = self.first_documents.partition_point(|first| *first <= segment.document) - 1;
        let shard = &self.shards[shard_index];
        let tokens = shard.range(segment.document - self.first_documents[shard_index]);
        let first = tokens.start + u64::from(segment.segment) * writer.sequence_length() as u64;
        let pairs = (first..first + u64::from(segment.length))
            .map(|place| (shard.token(place), shard.token(place + 1), shard.is_target(place + 1)));
        let span = SegmentSpan {
            row: 0,
            start: 0,
            length: segment.length as usize,
            entry,
            document: segment.document,
            segment: segment.segment,
            epoch,
        };
        writer.push_segment(span, pairs);
    }
}

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;

use limbeck_config::DataKind;
use tempfile::TempDir;

use super::*;
use crate::batch::SegmentSpan;

pub(super) const LENGTH: usize = 13;

pub(super) struct Place {
    directory: TempDir,
    pub(super) tokenizer: Tokenizer,
}

impl Place {
    pub(super) fn new() -> Place {
        let text = "one two three, one two three! ".repeat(2);
        let tokenizer = Tokenizer::train([Ok(text)].into_iter(), 265).expect("trained");
        let place = Place { directory: TempDir::new().expect("directory"), tokenizer };
        let documents = (0..70).map(|row| format!("{{\"text\":\"{}{row}\"}}\n", "one two, three ".repeat(row % 11)));
        place.write("a.jsonl", &documents.clone().take(30).collect::<String>());
        place.write("b.jsonl", &documents.skip(30).collect::<String>());
        let chats = (0..23).map(|row| {
            let (ask, say) = ("two ".repeat(row % 5 + 1), "é three ".repeat(row % 7 + 1));
            format!("{{\"prompt\":\"{ask}\",\"completion\":\"{say}\"}}\n")
        });
        place.write("chats/c.jsonl", &chats.collect::<String>());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().expect("parent")).expect("created");
        fs::write(self.path(name), text).expect("written");
    }

    fn entries(&self) -> Vec<DataEntry> {
        let entry = |name: &str, kind, weight| DataEntry {
            path: self.path(name).display().to_string(),
            kind,
            column: None,
            prompt_column: (kind == DataKind::Chats).then(|| "prompt".to_owned()),
            completion_column: (kind == DataKind::Chats).then(|| "completion".to_owned()),
            weight,
        };
        vec![entry("*.jsonl", DataKind::Documents, 0.7), entry("chats", DataKind::Chats, 0.3)]
    }

    pub(super) fn open(&self, sequence_length: usize, seed: u64) -> Mixture {
        let cache = self.path("cache");
        Mixture::open(&self.entries(), &self.tokenizer, sequence_length, seed, &cache, &|_| {}).expect("opened")
    }
}

/// Rows of a batch, each with its segments, so that batches of other sizes can be compared.
fn rows(batch: &Batch) -> Vec<Batch> {
    batch.micro_batches(1)
}

#[test]
fn each_segment_comes_exactly_once_an_epoch() {
    let (mixture, place) = {
        let place = Place::new();
        (place.open(LENGTH, 3), place)
    };
    let report = mixture.report();
    for (entry, report) in report.iter().enumerate() {
        let mut seen: BTreeMap<(u64, u32), Vec<usize>> = BTreeMap::new();
        let mut index = 0;
        for row in rows(&mixture.batch(0, 6000)) {
            if row.segments[0].entry != entry {
                continue;
            }
            for span in &row.segments {
                seen.entry((span.document, span.segment)).or_default().push(index / report.rows as usize);
            }
            index += 1;
        }
        let epochs = index / report.rows as usize;
        assert!(epochs >= 3, "{epochs} epochs");
        for seen in seen.values() {
            assert_eq!(
                seen.iter().filter(|epoch| **epoch < epochs).copied().collect::<Vec<_>>(),
                (0..epochs).collect::<Vec<_>>()
            );
        }
        assert_eq!(seen.keys().map(|(document, _)| document).collect::<HashSet<_>>().len() as u64, report.documents);
    }
    drop(place);
}

#[test]
fn rows_hold_the_documents_pairs_with_positions_from_their_segments_start() {
    let place = Place::new();
    let mixture = place.open(LENGTH, 3);
    let batch = mixture.batch(100, 57);
    assert_eq!((batch.rows, batch.inputs.len(), batch.loss_mask.len()), (57, 57 * LENGTH, 57 * LENGTH));
    let texts: Vec<String> = (0..70).map(|row| format!("{}{row}", "one two, three ".repeat(row % 11))).collect();
    let mut covered = vec![false; batch.inputs.len()];
    for span in &batch.segments {
        let first = span.row * LENGTH + span.start;
        let places = first..first + span.length;
        assert!(places.clone().zip(0..).all(|(place, position)| batch.positions[place] == position));
        covered[places.clone()].fill(true);
        if span.entry == 0 {
            let tokens =
                [vec![0], place.tokenizer.encode(&texts[span.document as usize]).expect("encoded"), vec![0]].concat();
            let from = span.segment as usize * LENGTH;
            assert_eq!(batch.inputs[places.clone()], tokens[from..from + span.length]);
            assert_eq!(batch.targets[places.clone()], tokens[from + 1..from + 1 + span.length]);
            assert!(batch.loss_mask[places].iter().all(|counts| *counts));
        }
    }
    for place in (0..batch.inputs.len()).filter(|place| !covered[*place]) {
        let padding = (batch.inputs[place], batch.targets[place], batch.positions[place], batch.loss_mask[place]);
        assert_eq!(padding, (0, 0, 0, false));
    }
}

#[test]
fn a_run_that_goes_on_anywhere_equals_the_straight_run() {
    let place = Place::new();
    let mixture = place.open(LENGTH, 3);
    let total = mixture.report().iter().map(|report| report.rows as usize).max().expect("entries") * 5 / 2;
    let straight = rows(&mixture.batch(0, total * 2));
    for first in 0..straight.len() - 4 {
        assert_eq!(rows(&mixture.batch(first as u64, 4)), straight[first..first + 4]);
    }
    // Another process: everything opened again.
    assert_eq!(rows(&place.open(LENGTH, 3).batch(0, 40)), straight[..40]);
}

#[test]
fn counts_are_exact_in_every_block_of_1024_rows() {
    let mixture = Place::new().open(LENGTH, 8);
    for block in 0..3 {
        let batch = mixture.batch(block * 1024, 1024);
        let chats = rows(&batch).iter().filter(|row| row.segments[0].entry == 1).count();
        assert_eq!(chats, 307); // 0.3 · 1024 = 307.2
    }
}

#[test]
fn the_order_depends_on_the_seed_and_the_rows_do_not() {
    let place = Place::new();
    let rows_of = |seed| {
        let mut spans: Vec<Vec<(usize, u64, u32)>> = Vec::new();
        for evaluation in place.open(LENGTH, seed).evaluation(7) {
            let key = |span: &SegmentSpan| (span.entry, span.document, span.segment);
            spans.extend(
                evaluation.batches.flat_map(|batch| rows(&batch)).map(|row| row.segments.iter().map(key).collect()),
            );
        }
        spans
    };
    assert_eq!(rows_of(1), rows_of(2));
    assert_ne!(place.open(LENGTH, 1).batch(0, 50), place.open(LENGTH, 2).batch(0, 50));
}

#[test]
fn the_number_of_threads_does_not_change_a_batch() {
    let batches = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        pool.install(|| Place::new().open(LENGTH, 4).batch(0, 300))
    });
    assert_eq!(batches[0], batches[1]);
}

#[test]
fn evaluation_scores_every_target_once() {
    let place = Place::new();
    let mixture = place.open(LENGTH, 3);
    let reports = mixture.report();
    let evaluations: Vec<_> = mixture.evaluation(5).collect();
    assert_eq!(evaluations.len(), 2);
    for ((entry, evaluation), report) in evaluations.into_iter().enumerate().zip(&reports) {
        let batches: Vec<Batch> = evaluation.batches.collect();
        let mut seen = HashSet::new();
        let spans = batches.iter().flat_map(|batch| &batch.segments);
        assert!(spans.clone().all(|span| span.entry == entry && seen.insert((span.document, span.segment))));
        assert!(batches.iter().rev().skip(1).all(|batch| batch.rows == 5));
        assert_eq!(batches.iter().map(|batch| batch.target_tokens() as u64).sum::<u64>(), report.target_tokens);
        assert_eq!(evaluation.scored_bytes, report.scored_bytes);
    }
    // Documents: each token and the end is a target, each byte is scored. Chats: what the assistant says, and its end.
    let texts: Vec<String> = (0..70).map(|row| format!("{}{row}", "one two, three ".repeat(row % 11))).collect();
    let tokens = |text: &String| place.tokenizer.encode(text).expect("encoded").len() as u64 + 1;
    assert_eq!(reports[0].target_tokens, texts.iter().map(tokens).sum::<u64>());
    assert_eq!(reports[0].scored_bytes, texts.iter().map(|text| text.len() as u64).sum::<u64>());
    let answers: Vec<String> = (0..23).map(|row| "é three ".repeat(row % 7 + 1)).collect();
    assert_eq!(reports[1].target_tokens, answers.iter().map(tokens).sum::<u64>());
    assert_eq!(reports[1].scored_bytes, answers.iter().map(|text| text.len() as u64).sum::<u64>());
}

#[test]
fn chats_that_fit_are_never_cut_and_longer_ones_are_counted() {
    let place = Place::new();
    let chats = |length: usize| {
        let mixture = place.open(length, 3);
        let report = mixture.report().remove(1);
        let segments: Vec<SegmentSpan> =
            mixture.evaluation(9).skip(1).flat_map(|entry| entry.batches).flat_map(|batch| batch.segments).collect();
        (report, segments)
    };
    let (report, segments) = chats(400);
    assert_eq!((report.cut_chats, report.dropped_segments), (0, 0));
    assert!(segments.iter().all(|span| span.segment == 0));
    assert_eq!(segments.len() as u64, report.documents);
    let (report, segments) = chats(40);
    assert!(0 < report.cut_chats && report.cut_chats < report.documents, "{report:?}");
    assert_eq!(segments.iter().filter(|span| span.segment == 1).count() as u64, report.cut_chats);
    // The first segment of a chat holds the prompt alone where it is short.
    assert!(chats(5).0.dropped_segments > 0);
}

#[test]
fn one_byte_of_data_changes_the_fingerprint_and_a_move_does_not() {
    let (place, other) = (Place::new(), Place::new());
    let fingerprint = place.open(LENGTH, 3).fingerprint();
    assert_eq!(other.open(LENGTH, 3).fingerprint(), fingerprint);
    assert_ne!(place.open(LENGTH, 4).fingerprint(), fingerprint);
    assert_ne!(place.open(LENGTH + 1, 3).fingerprint(), fingerprint);
    let text = fs::read_to_string(place.path("b.jsonl")).expect("read");
    place.write("b.jsonl", &text.replacen("two", "twO", 1));
    assert_ne!(place.open(LENGTH, 3).fingerprint(), fingerprint);
    place.write("b.jsonl", &text);
    assert_eq!(place.open(LENGTH, 3).fingerprint(), fingerprint);
    let mut entries = place.entries();
    entries[0].weight = 0.8;
    let weighted = Mixture::open(&entries, &place.tokenizer, LENGTH, 3, &place.path("cache"), &|_| {}).expect("opened");
    assert_ne!(weighted.fingerprint(), fingerprint);
}

#[test]
fn fixed_rows_hold_every_segment_once_whatever_the_seed_and_the_batches() {
    let place = Place::new();
    let (mixture, other) = (place.open(LENGTH, 3), place.open(LENGTH, 4));
    let whole = mixture.fixed_batch(0, mixture.fixed_rows() as usize);
    assert_eq!(other.fixed_batch(0, usize::MAX), whole);
    let keys: HashSet<_> = whole.segments.iter().map(|span| (span.entry, span.document, span.segment)).collect();
    assert_eq!((keys.len(), whole.segments.len() as u64), (whole.segments.len(), mixture.fixed_segments()));
    let packed: u64 = mixture.report().iter().map(|entry| entry.rows).sum();
    assert_eq!((whole.rows as u64, mixture.fixed_rows()), (packed, packed));
    // Batches of 7 rows, some over the end of an entry.
    let pieces: Vec<Batch> = (0..packed).step_by(7).flat_map(|first| rows(&mixture.fixed_batch(first, 7))).collect();
    assert_eq!(pieces, rows(&whole));
    // What training sees are these rows.
    let known: HashSet<&[u32]> = whole.inputs.chunks(LENGTH).collect();
    assert!(mixture.batch(0, 500).inputs.chunks(LENGTH).all(|row| known.contains(row)));
}

#[test]
fn epochs_count_how_often_an_entry_was_seen() {
    let place = Place::new();
    let mixture = place.open(LENGTH, 3);
    let mut seen: BTreeMap<(usize, u64, u32), u64> = BTreeMap::new();
    for span in mixture.batch(0, 3000).segments {
        let times = seen.entry((span.entry, span.document, span.segment)).or_default();
        assert_eq!(span.epoch, *times);
        *times += 1;
    }
    assert!(seen.values().all(|times| *times > 3));
}

#[test]
fn the_segments_fingerprint_follows_the_data_and_its_order_alone() {
    let place = Place::new();
    let fingerprint = place.open(LENGTH, 3).segments_fingerprint();
    assert_eq!(place.open(LENGTH, 4).segments_fingerprint(), fingerprint);
    assert_ne!(place.open(LENGTH + 1, 3).segments_fingerprint(), fingerprint);
    let open = |entries: &[DataEntry]| {
        let mixture = Mixture::open(entries, &place.tokenizer, LENGTH, 3, &place.path("cache"), &|_| {});
        mixture.expect("opened").segments_fingerprint()
    };
    let mut entries = place.entries();
    entries[0].weight = 0.9;
    assert_eq!(open(&entries), fingerprint);
    entries.swap(0, 1);
    assert_ne!(open(&entries), fingerprint);
    let text = fs::read_to_string(place.path("b.jsonl")).expect("read");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(3, 4);
    place.write("b.jsonl", &format!("{}\n", lines.join("\n")));
    assert_ne!(place.open(LENGTH, 3).segments_fingerprint(), fingerprint);
}

#[test]
fn reports_count_what_was_left_out() {
    let place = Place::new();
    place.write("d/x.jsonl", "{\"text\":\"one\"}\n{\"text\":null}\n{\"text\":\"\"}\n{\"text\":\"\"}\n");
    let mut entries = place.entries();
    entries[0].path = place.path("d").display().to_string();
    let open = |entries: &[DataEntry], length| {
        Mixture::open(entries, &place.tokenizer, length, 3, &place.path("cache"), &|_| {})
    };
    // The second time from the cache.
    for _ in 0..2 {
        let report = open(&entries[..1], 8).expect("opened").report().remove(0);
        assert_eq!((report.documents, report.skipped_null, report.skipped_empty), (1, 1, 2));
        assert_eq!((report.rows, report.scored_bytes), (1, 3));
        let pairs = place.tokenizer.encode("one").expect("encoded").len() + 1;
        assert_eq!((report.tokens, report.padding_share), (pairs as u64 + 1, 1.0 - pairs as f64 / 8.0));
    }
    place.write("d/x.jsonl", "{\"text\":null}\n{\"text\":\"\"}\n");
    let message = open(&entries[..1], 8).expect_err("refused").to_string();
    assert!(message.contains("has no text: `1` null and `1` empty rows were skipped"), "{message}");
    let message = open(&entries, 0).expect_err("refused").to_string();
    assert!(message.starts_with("data.sequence_length is `0`, must be from 1"), "{message}");
    assert!(matches!(open(&[], 8), Err(DataError::NoEntries)));
}

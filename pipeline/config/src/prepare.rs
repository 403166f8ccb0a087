//! The config of `prepare`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{DataEntry, check_training_entries};
use crate::load::StageConfig;
use crate::problem::Problem;
use crate::rules;
use crate::run::RunSection;

/// A corpus that `prepare` writes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CorpusSection {
    /// The embedded world, as parquet.
    Tiny {
        /// Where `train.parquet`, `valid.parquet`, `chats-train.parquet`, `chats-valid.parquet` go.
        path: PathBuf,
        /// Training documents.
        train_documents: usize,
        /// Held-out documents.
        valid_documents: usize,
        /// Training chats.
        train_chats: usize,
        /// Held-out chats.
        valid_chats: usize,
    },
}

/// Where a tokenizer comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// Byte-level BPE trained on `[[data.train]]`.
    #[default]
    Train,
    /// Another one, restricted to the tokens that `[[data.train]]` uses.
    Restrict,
}

/// `[tokenizer]` of `prepare`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSection {
    /// Where `tokenizer.json` and `tokenizer_config.json` go: a directory.
    pub path: PathBuf,
    /// How it is made.
    #[serde(default, skip_serializing_if = "TokenizerKind::is_default")]
    pub kind: TokenizerKind,
    /// `restrict`: a `tokenizer.json`, a directory that holds one, or a run directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Entries, special tokens included. `restrict`: the most frequent ones; default: all that are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
}

/// `[data]` of `prepare`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareDataSection {
    /// What the tokenizer is trained on, or restricted to.
    pub train: Vec<DataEntry>,
}

/// `prepare`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareConfig {
    /// Name and seed.
    pub run: RunSection,
    /// A corpus to write first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus: Option<CorpusSection>,
    /// What is read.
    pub data: PrepareDataSection,
    /// The tokenizer to make.
    pub tokenizer: TokenizerSection,
}

/// 256 bytes and the special tokens, with room for a few merges.
const SMALLEST_VOCABULARY: usize = 300;

impl CorpusSection {
    fn check(&self, problems: &mut Vec<Problem>) {
        let Self::Tiny { path, train_documents, valid_documents, train_chats, valid_chats } = self;
        rules::not_empty(problems, "corpus.path", &path.to_string_lossy(), "data/tiny");
        let counts = [
            ("corpus.train_documents", *train_documents),
            ("corpus.valid_documents", *valid_documents),
            ("corpus.train_chats", *train_chats),
            ("corpus.valid_chats", *valid_chats),
        ];
        for (key, count) in counts {
            rules::at_least(problems, key, count as u64, 1);
        }
    }
}

impl TokenizerKind {
    /// Configs from before there was a choice stay as they are.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TokenizerSection {
    fn check(&self, problems: &mut Vec<Problem>) {
        rules::not_empty(problems, "tokenizer.path", &self.path.to_string_lossy(), "data/tiny/tokenizer");
        if let Some(size) = self.vocab_size.filter(|size| *size < SMALLEST_VOCABULARY) {
            let rule = format!("must be at least `{SMALLEST_VOCABULARY}`: 256 bytes, the special tokens, some merges");
            problems.push(Problem::new("tokenizer.vocab_size", size, rule).hint("use `1024` for a small corpus"));
        }
        match (self.kind, &self.from) {
            (TokenizerKind::Train, Some(from)) => problems.push(
                Problem::new("tokenizer.from", from.display(), "has no use with tokenizer.kind = `train`")
                    .reads("tokenizer.kind")
                    .hint("leave it out, or set kind to `restrict`"),
            ),
            (TokenizerKind::Restrict, None) => problems.push(
                Problem::missing("tokenizer.from", "tokenizer.kind = `restrict` needs one")
                    .reads("tokenizer.kind")
                    .hint("name the teacher, such as `checkpoints/tiny/sft`, or its tokenizer.json"),
            ),
            (TokenizerKind::Restrict, Some(from)) => {
                rules::not_empty(problems, "tokenizer.from", &from.to_string_lossy(), "checkpoints/tiny/sft");
                if *from == self.path {
                    problems.push(
                        Problem::new("tokenizer.from", from.display(), "must be another directory than tokenizer.path")
                            .reads("tokenizer.path")
                            .hint("name the teacher's"),
                    );
                }
            }
            (TokenizerKind::Train, None) => {}
        }
        if self.kind == TokenizerKind::Train && self.vocab_size.is_none() {
            problems.push(
                Problem::missing("tokenizer.vocab_size", "tokenizer.kind = `train` needs one")
                    .reads("tokenizer.kind")
                    .hint("add vocab_size, such as `1024` for a small corpus"),
            );
        }
    }
}

impl StageConfig for PrepareConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.run.check(&mut problems);
        if let Some(corpus) = &self.corpus {
            corpus.check(&mut problems);
        }
        check_training_entries(&self.data.train, &mut problems);
        self.tokenizer.check(&mut problems);
        problems
    }
}

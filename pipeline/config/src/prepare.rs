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

/// `[tokenizer]` of `prepare`: byte-level BPE trained on `[[data.train]]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSection {
    /// Where `tokenizer.json` and `tokenizer_config.json` go: a directory.
    pub path: PathBuf,
    /// Entries, special tokens included.
    pub vocab_size: usize,
}

/// `[data]` of `prepare`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareDataSection {
    /// What the tokenizer is trained on.
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
    /// The tokenizer to train.
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

impl StageConfig for PrepareConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.run.check(&mut problems);
        if let Some(corpus) = &self.corpus {
            corpus.check(&mut problems);
        }
        check_training_entries(&self.data.train, &mut problems);
        let tokenizer = &self.tokenizer;
        rules::not_empty(&mut problems, "tokenizer.path", &tokenizer.path.to_string_lossy(), "data/tiny/tokenizer");
        if tokenizer.vocab_size < SMALLEST_VOCABULARY {
            let rule = format!("must be at least `{SMALLEST_VOCABULARY}`: 256 bytes, the special tokens, some merges");
            let problem = Problem::new("tokenizer.vocab_size", tokenizer.vocab_size, rule);
            problems.push(problem.hint("use `1024` for a small corpus"));
        }
        problems
    }
}

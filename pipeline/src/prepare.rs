//! `prepare`: writes the embedded corpus, where the config has one, and trains a tokenizer.

use std::path::Path;

use limbeck_checkpoint::{content_hash, write_atomically};
use limbeck_config::{CorpusSection, PrepareConfig, load, to_toml};
use limbeck_data::world::{WorldCounts, write_parquet};
use limbeck_data::Tokenizer;
use limbeck_data::source::texts;

use crate::cli::ConfigArgs;
use crate::failure::{Completion, Failure};

/// Hash of the config that made the tokenizer's directory and, with it, everything else.
const RECORD: &str = "prepared.blake3";

/// Runs the stage; what an unchanged config has made already is left as it is. Gives the tokenizer's
/// directory.
///
/// # Errors
/// If the config or the data is wrong (status 2), or a file cannot be written (status 1).
pub fn run(args: &ConfigArgs) -> Result<Completion, Failure> {
    let config: PrepareConfig = load(&args.config, &args.set).map_err(Failure::usage)?;
    let toml = to_toml(&config).map_err(Failure::usage)?;
    let directory = &config.tokenizer.path;
    let (record, hash) = (directory.join(RECORD), content_hash(toml.as_bytes()));
    if std::fs::read_to_string(&record).is_ok_and(|found| found == hash) {
        eprintln!("prepare: already complete");
    } else {
        if let Some(corpus) = &config.corpus {
            write_corpus(corpus, config.run.seed)?;
        }
        train_tokenizer(&config, directory)?;
        write_atomically(&record, &hash).map_err(Failure::run)?;
    }
    Ok(Completion::Complete { path: Some(directory.clone()) })
}

fn write_corpus(corpus: &CorpusSection, seed: u64) -> Result<(), Failure> {
    let CorpusSection::Tiny { path, train_documents, valid_documents, train_chats, valid_chats } = corpus;
    let counts = WorldCounts {
        train_documents: *train_documents,
        valid_documents: *valid_documents,
        train_chats: *train_chats,
        valid_chats: *valid_chats,
    };
    let report = write_parquet(path, &counts, seed).map_err(Failure::run)?;
    eprintln!("{report}");
    Ok(())
}

fn train_tokenizer(config: &PrepareConfig, directory: &Path) -> Result<(), Failure> {
    let texts = texts(&config.data.train).map_err(Failure::usage)?;
    let tokenizer = Tokenizer::train(texts, config.tokenizer.vocab_size).map_err(Failure::usage)?;
    std::fs::create_dir_all(directory).map_err(Failure::run)?;
    tokenizer.save(directory).map_err(Failure::run)?;
    eprintln!("prepare: tokenizer of {} entries in `{}`", tokenizer.vocab_size(), directory.display());
    Ok(())
}

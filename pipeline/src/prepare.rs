//! `prepare`: writes the embedded corpus, where the config has one, and trains a tokenizer or restricts another one.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::anyhow;
use clap::Args;
use limbeck_checkpoint::{content_hash, write_atomically};
use limbeck_config::{CorpusSection, PrepareConfig, TokenizerKind, TokenizerSection, load, to_toml};
use limbeck_data::source::{data_files, texts};
use limbeck_data::world::{WorldCounts, write_parquet};
use limbeck_data::{Tokenizer, token_counts};
use limbeck_train::say;

use crate::cli::ConfigArgs;
use crate::failure::{Completion, Failure};
use crate::{output, source};

/// Hash of the config that made the tokenizer's directory and, with it, everything else.
const RECORD: &str = "prepared.blake3";

/// Arguments of `prepare`.
#[derive(Args, Clone, Debug)]
pub struct PrepareArgs {
    /// Which config.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Checks the config and that its data is there, prints the resolved config, and ends without writing.
    #[arg(long)]
    pub check: bool,
}

/// Runs the stage; what an unchanged config has made already is left as it is. Gives the tokenizer's
/// directory.
///
/// # Errors
/// If the config or the data is wrong (status 2), or a file cannot be written (status 1).
pub fn run(args: &PrepareArgs) -> Result<Completion, Failure> {
    let config: PrepareConfig = load(&args.config.config, &args.config.set).map_err(Failure::usage)?;
    let toml = to_toml(&config).map_err(Failure::usage)?;
    if args.check {
        // The files of a corpus are written first.
        for entry in config.data.train.iter().filter(|_| config.corpus.is_none()) {
            data_files(entry).map_err(Failure::usage)?;
        }
        output::line(toml)?;
        return Ok(Completion::Complete { path: None });
    }
    let directory = &config.tokenizer.path;
    let whole = whole_tokenizer(&config.tokenizer)?;
    let made_from = whole.as_ref().map(Tokenizer::hash).unwrap_or_default();
    let (record, hash) = (directory.join(RECORD), content_hash((toml + &made_from).as_bytes()));
    if std::fs::read_to_string(&record).is_ok_and(|found| found == hash) && is_whole(&config) {
        say!("prepare: already complete");
    } else {
        if let Some(corpus) = &config.corpus {
            forget(&record)?;
            write_corpus(corpus, config.run.seed)?;
        }
        let tokenizer = match &whole {
            None => train_tokenizer(&config)?,
            Some(whole) => restrict_tokenizer(&config, whole)?,
        };
        forget(&record)?;
        save_tokenizer(&tokenizer, directory)?;
        write_atomically(&record, &hash).map_err(Failure::run)?;
    }
    Ok(Completion::Complete { path: Some(directory.clone()) })
}

/// Whether the tokenizer and the files of the corpus are there; each was written whole.
fn is_whole(config: &PrepareConfig) -> bool {
    let corpus = config.corpus.iter().flat_map(|CorpusSection::Tiny { path, .. }| {
        ["train", "valid", "chats-train", "chats-valid"].map(|name| path.join(name).with_extension("parquet"))
    });
    let tokenizer = ["tokenizer.json", "tokenizer_config.json"].map(|name| config.tokenizer.path.join(name));
    corpus.chain(tokenizer).all(|file| file.is_file())
}

/// What is about to change is not what the record says any more.
fn forget(record: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(record) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::run(anyhow!("cannot remove `{}`: {error}; hint: check the permissions", record.display())))
        }
        _ => Ok(()),
    }
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
    for file in [&report.train, &report.valid, &report.chats_train, &report.chats_valid] {
        let (path, floor) = (file.path.display(), file.floor.bits_per_byte());
        say!("prepare: {} rows in `{path}`; a perfect model reaches {floor:.4} bits/byte", file.rows);
    }
    Ok(())
}

fn train_tokenizer(config: &PrepareConfig) -> Result<Tokenizer, Failure> {
    let texts = texts(&config.data.train).map_err(Failure::usage)?;
    // Loading the config refuses it without.
    Tokenizer::train(texts, config.tokenizer.vocab_size.unwrap_or_default()).map_err(Failure::usage)
}

/// The tokenizer that is to be restricted.
fn whole_tokenizer(section: &TokenizerSection) -> Result<Option<Tokenizer>, Failure> {
    match (section.kind, &section.from) {
        (TokenizerKind::Restrict, Some(from)) => source::tokenizer("tokenizer.from", from).map(Some),
        // Loading the config refuses it with one and without the other.
        _ => Ok(None),
    }
}

fn restrict_tokenizer(config: &PrepareConfig, whole: &Tokenizer) -> Result<Tokenizer, Failure> {
    let counts = token_counts(&config.data.train, whole).map_err(Failure::usage)?;
    let restricted = whole.restrict(&counts, config.tokenizer.vocab_size).map_err(Failure::usage)?;
    let stays = |id: &u32| whole.token(*id).is_some_and(|token| restricted.id(&token).is_some());
    let kept: u64 = (0u32..).zip(&counts).filter(|(id, _)| stays(id)).map(|(_, count)| count).sum();
    say!(
        "prepare: kept {} of {} entries, which are {:.2} % of the {} tokens of the data",
        restricted.vocab_size(),
        whole.vocab_size(),
        100.0 * kept as f64 / counts.iter().sum::<u64>().max(1) as f64,
        counts.iter().sum::<u64>()
    );
    Ok(restricted)
}

fn save_tokenizer(tokenizer: &Tokenizer, directory: &Path) -> Result<(), Failure> {
    tokenizer.save(directory).map_err(Failure::run)?;
    say!("prepare: tokenizer of {} entries in `{}`", tokenizer.vocab_size(), directory.display());
    Ok(())
}

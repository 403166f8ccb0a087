//! A byte-level BPE tokenizer from texts.

use std::collections::HashMap;
use std::path::PathBuf;

use rayon::prelude::*;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

use super::bpe_training::learn;
use super::config::TokenizerConfig;
use super::{END_OF_TEXT, END_OF_TURN, START_OF_TURN, Tokenizer};
use crate::error::DataError;
use crate::template::CHATML;

/// How Qwen2 cuts text into words: `tokenizer.json` of Qwen2, and `qwen2` in llama.cpp.
pub(super) const QWEN2_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Ids 0, 1 and 2. llama.cpp knows by these texts where to stop.
const SPECIAL: [&str; 3] = [END_OF_TEXT, START_OF_TURN, END_OF_TURN];

/// The special tokens and one token a byte.
const LEAST: usize = SPECIAL.len() + 256;

/// Bytes of text whose words are counted in parallel.
const CHUNK_BYTES: usize = 1 << 22;

impl Tokenizer {
    /// Trains a byte-level BPE of exactly `vocab_size` entries: `<|endoftext|>`, `<|im_start|>`, `<|im_end|>` with ids
    /// 0, 1, 2, then the 256 bytes, then merges. The result is a function of the multiset of words in `texts`.
    ///
    /// Words are cut as Qwen2 cuts them. Its NFC normaliser is left out: llama.cpp's `qwen2` normalises nothing, so
    /// with it a text in another form would get other tokens there than in transformers.
    ///
    /// # Errors
    /// A size that cannot hold the bytes, or that the texts cannot fill; the first error of `texts`.
    pub fn train(
        texts: impl Iterator<Item = Result<String, DataError>>,
        vocab_size: usize,
    ) -> Result<Tokenizer, DataError> {
        if vocab_size < LEAST {
            return Err(DataError::VocabularyTooSmall { asked: vocab_size, least: LEAST });
        }
        let words = count_words(texts)?;
        let (tokens, byte_ids) = first_tokens();
        let bpe = learn(tokens, &byte_ids, words, vocab_size);
        if bpe.tokens.len() < vocab_size {
            return Err(DataError::CorpusTooSmall { asked: vocab_size, reached: bpe.tokens.len() });
        }
        let model = BPE::builder()
            .vocab_and_merges(bpe.tokens.into_iter().zip(0..).collect::<Vocab>(), bpe.merges)
            .build()
            .map_err(encode_error)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        let steps = vec![PreTokenizerWrapper::Split(qwen2_split()?), PreTokenizerWrapper::ByteLevel(byte_level())];
        inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(steps))));
        inner.with_decoder(Some(byte_level()));
        inner.add_special_tokens(SPECIAL.map(|token| AddedToken::from(token, true))).map_err(encode_error)?;
        Tokenizer::assemble(inner, PathBuf::from("tokenizer.json"), TokenizerConfig::chat_ml(), Some(CHATML.to_owned()))
    }
}

fn encode_error(error: tokenizers::Error) -> DataError {
    DataError::Encode { reason: error.to_string() }
}

/// Offsets are not trimmed and no space is added: text is kept byte for byte.
fn byte_level() -> ByteLevel {
    ByteLevel::new(false, false, false)
}

fn qwen2_split() -> Result<Split, DataError> {
    let pattern = SplitPattern::Regex(QWEN2_PATTERN.to_owned());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(encode_error)
}

/// The special tokens and the bytes' characters by code point, and each byte's id.
fn first_tokens() -> (Vec<String>, [u32; 256]) {
    let mut bytes: Vec<(char, u8)> = (0..=u8::MAX).map(|byte| (byte_char(byte), byte)).collect();
    bytes.sort_unstable();
    let mut byte_ids = [0; 256];
    for (id, (_, byte)) in (SPECIAL.len() as u32..).zip(&bytes) {
        byte_ids[usize::from(*byte)] = id;
    }
    let tokens = SPECIAL.iter().map(|token| (*token).to_owned());
    (tokens.chain(bytes.iter().map(|(shown, _)| shown.to_string())).collect(), byte_ids)
}

/// The character that stands for a byte in a byte-level vocabulary: itself where it prints, else the next one from
/// U+0100 on (`bytes_to_unicode` of GPT-2's `encoder.py`).
pub(super) fn byte_char(byte: u8) -> char {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if prints(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !prints(*other)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn count_words(texts: impl Iterator<Item = Result<String, DataError>>) -> Result<HashMap<String, u64>, DataError> {
    let split = qwen2_split()?;
    let (mut words, mut chunk, mut bytes) = (HashMap::new(), Vec::new(), 0);
    for text in texts {
        let text = text?;
        bytes += text.len();
        chunk.push(text);
        if bytes >= CHUNK_BYTES {
            count_chunk(&split, &chunk, &mut words)?;
            (chunk, bytes) = (Vec::new(), 0);
        }
    }
    count_chunk(&split, &chunk, &mut words)?;
    Ok(words)
}

fn count_chunk(split: &Split, chunk: &[String], words: &mut HashMap<String, u64>) -> Result<(), DataError> {
    let counted: Vec<HashMap<String, u64>> = chunk
        .par_iter()
        .map(|text| {
            let mut cut = PreTokenizedString::from(text.as_str());
            split.pre_tokenize(&mut cut).map_err(encode_error)?;
            let mut words: HashMap<String, u64> = HashMap::new();
            for (word, _, _) in cut.get_splits(OffsetReferential::Original, OffsetType::Byte) {
                match words.get_mut(word) {
                    Some(count) => *count += 1,
                    None => drop(words.insert(word.to_owned(), 1)),
                }
            }
            Ok(words)
        })
        .collect::<Result<_, DataError>>()?;
    for (word, count) in counted.into_iter().flatten() {
        *words.entry(word).or_default() += count;
    }
    Ok(())
}

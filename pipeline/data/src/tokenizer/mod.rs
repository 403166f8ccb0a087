//! Text to token ids and back.

mod bpe_training;
mod config;
mod difference;
mod files;
mod restricted;
mod restriction;
mod special;
mod stream;
mod training;

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use tokenizers::ModelWrapper;

use self::config::TokenizerConfig;
use self::special::{Piece, SpecialTokens};
use crate::error::DataError;
use crate::template::ChatTemplate;

pub use self::difference::TokenizerDifference;
pub use self::files::TokenizerFiles;
pub(crate) use self::special::Guard;
pub use self::stream::TextStream;

/// Before and after every document.
const END_OF_TEXT: &str = "<|endoftext|>";
/// Before every turn of a conversation.
const START_OF_TURN: &str = "<|im_start|>";
/// After every turn of a conversation.
const END_OF_TURN: &str = "<|im_end|>";

/// What tokenizers other than ours call the end of a turn, where `eos_token` names the end of a text (Llama 3, Gemma,
/// Phi).
const OTHER_ENDS_OF_TURN: [&str; 4] = ["<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eot|>"];

/// A tokenizer with its special tokens and chat template: what a model directory holds.
pub struct Tokenizer {
    /// Encodes the text of special tokens as plain text.
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    config: TokenizerConfig,
    template: Option<ChatTemplate>,
    special: SpecialTokens,
    begin_of_text: u32,
    end_of_text: u32,
    end_of_turn: u32,
    /// Those that the model's files name besides.
    stop_ids: Vec<u32>,
    model_max_length: Option<usize>,
}

impl Tokenizer {
    /// Loads a `tokenizer.json`, or the one in a directory, with the tokenizer_config.json and chat_template.jinja
    /// beside it where they exist.
    ///
    /// # Errors
    /// Files that are not there or not readable; no token for the beginning or the end of a text.
    pub fn load(path: impl AsRef<Path>) -> Result<Tokenizer, DataError> {
        let path = path.as_ref();
        if path.is_dir() { Tokenizer::from_directory(path) } else { Tokenizer::from_file(path) }
    }

    /// Loads the `tokenizer.json` of a directory; see [`Tokenizer::load`].
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_directory(directory: impl AsRef<Path>) -> Result<Tokenizer, DataError> {
        Tokenizer::from_file(directory.as_ref().join("tokenizer.json"))
    }

    /// Loads a `tokenizer.json`; see [`Tokenizer::load`].
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Tokenizer, DataError> {
        let path = path.as_ref();
        Tokenizer::from_files(path, TokenizerFiles::read(path)?)
    }

    /// The tokenizer of files that are elsewhere, such as inside a model's; `path` is for messages.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_files(path: &Path, files: TokenizerFiles) -> Result<Tokenizer, DataError> {
        let inner = tokenizers::Tokenizer::from_bytes(files.tokenizer)
            .map_err(|error| DataError::BadTokenizer { path: path.to_path_buf(), reason: error.to_string() })?;
        let config = TokenizerConfig::from(files.config);
        let template = files.template.or_else(|| config.chat_template());
        let mut tokenizer = Tokenizer::assemble(inner, path.to_path_buf(), config, template)?;
        tokenizer.stop_ids.extend(files.stop_ids);
        Ok(tokenizer)
    }

    fn assemble(
        mut inner: tokenizers::Tokenizer,
        path: PathBuf,
        config: TokenizerConfig,
        template: Option<String>,
    ) -> Result<Tokenizer, DataError> {
        // A file may carry the truncation or padding that its last user had set.
        let bad = |error: tokenizers::Error| DataError::BadTokenizer { path: path.clone(), reason: error.to_string() };
        inner.with_truncation(None).map_err(bad)?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        let id = |text: &str| inner.token_to_id(text);
        let named = |what, key| {
            id(END_OF_TEXT).or_else(|| config.token(key).and_then(id)).ok_or_else(|| DataError::NoBoundaryToken {
                path: path.clone(),
                what,
                key,
            })
        };
        let end_of_text = named("end-of-text", "eos_token")?;
        let begin_of_text = named("begin-of-text", "bos_token")?;
        let end_of_turn = id(END_OF_TURN)
            .or_else(|| OTHER_ENDS_OF_TURN.iter().find_map(|text| id(text)))
            .or_else(|| config.token("eos_token").and_then(id))
            .unwrap_or(end_of_text);
        let mut special: Vec<(String, u32)> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (token.content, id))
            .collect();
        special.sort();
        let token = |key| config.token(key).map(str::to_owned);
        let template =
            template.map(|source| ChatTemplate::new(source, token("bos_token"), token("eos_token"))).transpose()?;
        let special = SpecialTokens::new(special)?;
        Ok(Tokenizer {
            inner,
            path,
            config,
            template,
            special,
            begin_of_text,
            end_of_text,
            end_of_turn,
            stop_ids: Vec::new(),
            model_max_length: None,
        })
    }

    /// Sets the `model_max_length` that [`Tokenizer::save`] writes: the longest sequence of the model beside it, in
    /// tokens.
    pub fn with_model_max_length(mut self, model_max_length: usize) -> Tokenizer {
        self.model_max_length = Some(model_max_length);
        self
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and, with a template, `chat_template.jinja`, as transformers 4
    /// and 5, transformers.js, mlx-lm and llama.cpp's converter read them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, directory: impl AsRef<Path>) -> Result<(), DataError> {
        let directory = directory.as_ref();
        fs::create_dir_all(directory).map_err(DataError::io("create", directory))?;
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(DataError::io("write", &path))
        };
        write("tokenizer.json", self.to_json(true)?)?;
        let template = self.chat_template();
        let config = self.config.to_json(template, self.model_max_length);
        write("tokenizer_config.json", format!("{config:#}\n"))?;
        template.map_or(Ok(()), |template| write("chat_template.jinja", template.to_owned()))
    }

    fn to_json(&self, pretty: bool) -> Result<String, DataError> {
        let bad =
            |error: tokenizers::Error| DataError::BadTokenizer { path: self.path.clone(), reason: error.to_string() };
        self.inner.to_string(pretty).map_err(bad)
    }

    /// The ids of a text. The text of a special token in it is plain text; no token is added.
    ///
    /// # Errors
    /// A text that a foreign tokenizer has no tokens for; byte-level ones encode everything.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|error| DataError::Encode { reason: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of what a chat template rendered: special tokens are special, except those that `guard` hid.
    pub(crate) fn encode_rendered(&self, text: &str, guard: &Guard<'_>) -> Result<Vec<u32>, DataError> {
        let mut ids = Vec::new();
        for piece in self.special.pieces(text) {
            match piece {
                Piece::Text(text) => ids.extend(self.encode(&guard.show(text))?),
                Piece::Special(id) => ids.push(id),
            }
        }
        Ok(ids)
    }

    pub(crate) fn special(&self) -> &SpecialTokens {
        &self.special
    }

    pub(crate) fn template(&self) -> Result<&ChatTemplate, DataError> {
        self.template.as_ref().ok_or_else(|| DataError::NoTemplate { path: self.path.clone() })
    }

    /// The text of ids, special tokens left out, bytes that are not UTF-8 replaced by U+FFFD.
    ///
    /// # Errors
    /// A foreign tokenizer's decoder that fails; ours does not.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        self.inner.decode(ids, true).map_err(|error| DataError::Encode { reason: error.to_string() })
    }

    /// Rows that an embedding needs: the largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The token of an id, as it stands in `tokenizer.json`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token, given as it stands in `tokenizer.json`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// What a document begins with, so that its first token is a target too: `<|endoftext|>`, else `bos_token`.
    pub fn begin_of_text(&self) -> u32 {
        self.begin_of_text
    }

    /// What a document ends with: `<|endoftext|>`, else `eos_token`.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// What an assistant's turn ends with: `<|im_end|>`, else the name of other families, else `eos_token`.
    pub fn end_of_turn(&self) -> u32 {
        self.end_of_turn
    }

    /// Where generation stops: the end of a turn, that of a text, and what the model's files name besides.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = Vec::new();
        for id in [self.end_of_turn, self.end_of_text].iter().chain(&self.stop_ids) {
            if !ids.contains(id) && self.token(*id).is_some() {
                ids.push(*id);
            }
        }
        ids
    }

    /// The Jinja source of the chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_ref().map(ChatTemplate::source)
    }

    /// The pairs that are merged, in order; none for models other than BPE.
    pub fn merges(&self) -> Vec<(String, String)> {
        let ModelWrapper::BPE(model) = self.inner.get_model() else { return Vec::new() };
        let json = serde_json::to_value(model).unwrap_or_default();
        serde_json::from_value(json["merges"].clone()).unwrap_or_default()
    }

    /// BLAKE3 of the tokens in the order of their ids and of the merges: equal where logits over the ids mean the same.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut feed = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        feed("limbeck tokenizer 1");
        for id in 0..self.vocab_size() as u32 {
            feed(&self.token(id).unwrap_or_default());
        }
        for (left, right) in self.merges() {
            feed(&left);
            feed(&right);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// BLAKE3 of all that decides which ids a text gets: the hash that token shards are keyed by.
    pub(crate) fn encoding_hash(&self) -> Result<blake3::Hash, DataError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.to_json(false)?.as_bytes());
        for id in [self.begin_of_text, self.end_of_text, self.end_of_turn] {
            hasher.update(&id.to_le_bytes());
        }
        Ok(hasher.finalize())
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokenizer").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

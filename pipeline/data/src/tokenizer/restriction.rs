//! A tokenizer with some of another's tokens.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::Tokenizer;
use super::training::byte_char;
use crate::error::DataError;

impl Tokenizer {
    /// This tokenizer with only the tokens that are used: all that `counts`, one an id, has more than 0 of, or the most
    /// frequent ones up to `vocab_size` entries, of equals those with the smaller ids. Bytes and added tokens stay whatever
    /// their count, and a token stays together with those that it is merged from. Ids are dense, in the order of this
    /// tokenizer's.
    ///
    /// The merges are those of which both sides and the result stay, in their order. So a text whose tokens all stay is
    /// tokenised as before: whatever is merged on the way to a token that stays can still be merged, and in that order,
    /// because the first of fewer possible merges is the same one. In other texts a token that went comes out as the tokens
    /// that its bytes are merged to without it, and decodes to the same bytes.
    ///
    /// # Errors
    /// A tokenizer other than a byte-level BPE; a `vocab_size` that bytes and added tokens do not fit into, or that the
    /// counts do not fill.
    pub fn restrict(&self, counts: &[u64], vocab_size: Option<usize>) -> Result<Tokenizer, DataError> {
        let kept = self.kept(counts, vocab_size)?;
        let restricted = self.with_tokens(&kept)?;
        // What is written here is what will be asked of it.
        restricted.rows_in(self)?;
        Ok(restricted)
    }

    fn kept(&self, counts: &[u64], vocab_size: Option<usize>) -> Result<BTreeSet<u32>, DataError> {
        let mut kept = self.indispensable()?;
        if let Some(asked) = vocab_size.filter(|asked| *asked < kept.len()) {
            return Err(DataError::VocabularyTooSmall { asked, least: kept.len() });
        }
        let merges = Merges::of(self);
        let mut used: Vec<u32> = (0u32..).zip(counts).filter(|(_, count)| **count > 0).map(|(id, _)| id).collect();
        used.sort_by_key(|id| (Reverse(counts[*id as usize]), *id));
        for id in used {
            let wanted: BTreeSet<u32> = merges.way_to(id, self).into_iter().filter(|id| !kept.contains(id)).collect();
            if vocab_size.is_none_or(|most| kept.len() + wanted.len() <= most) {
                kept.extend(wanted);
            }
        }
        match vocab_size {
            Some(asked) if kept.len() < asked => Err(DataError::CorpusTooSmall { asked, reached: kept.len() }),
            _ => Ok(kept),
        }
    }

    /// The bytes and the added tokens. Some tokenizers lack bytes that their corpus lacked.
    fn indispensable(&self) -> Result<BTreeSet<u32>, DataError> {
        let settings = self.settings()?;
        let model = &settings["model"];
        if model["type"] != "BPE" {
            return Err(self.not_byte_level(format!("a model of type {}", model["type"])));
        }
        // Nothing else is quoted like this: quotes in a pattern are escaped.
        if !settings["pre_tokenizer"].to_string().contains(r#""ByteLevel""#) {
            return Err(self.not_byte_level("no `ByteLevel` pre-tokenizer".to_owned()));
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model[key].as_str().is_some_and(|affix| !affix.is_empty()) {
                return Err(self.not_byte_level(format!("`{key}`")));
            }
        }
        let bytes = (0..=u8::MAX).filter_map(|byte| self.id(&byte_char(byte).to_string()));
        let unknown = model["unk_token"].as_str().and_then(|token| self.id(token));
        Ok(bytes.chain(unknown).chain(self.inner.get_added_tokens_decoder().into_keys()).collect())
    }

    fn not_byte_level(&self, found: String) -> DataError {
        DataError::NotByteLevel { path: self.path.clone(), found }
    }

    /// The tokenizer of the tokens `kept`, with new ids.
    fn with_tokens(&self, kept: &BTreeSet<u32>) -> Result<Tokenizer, DataError> {
        let tokens = kept.iter().filter_map(|id| self.token(*id));
        let ids: HashMap<String, u32> = tokens.zip(0..).collect();
        let mut json = self.json()?;
        let model = &mut json["model"];
        if let Some(vocabulary) = model["vocab"].as_object_mut() {
            vocabulary.retain(|token, _| ids.contains_key(token));
            vocabulary.iter_mut().for_each(|(token, id)| *id = ids[token].into());
        }
        let merges = self.merges().into_iter().filter(|(left, right)| {
            [left, right, &format!("{left}{right}")].iter().all(|token| ids.contains_key(*token))
        });
        model["merges"] = merges.map(|(left, right)| Value::from(vec![left, right])).collect();
        for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
            token["id"] = token["content"].as_str().and_then(|content| ids.get(content)).copied().into();
        }
        renumber(&mut json["post_processor"], &ids);
        let bad = |reason: String| DataError::BadTokenizer { path: self.path.clone(), reason };
        let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).map_err(|error| bad(error.to_string()))?;
        let config = self.config.with_ids(|token| ids.get(token).copied());
        let template = self.chat_template().map(str::to_owned);
        let restricted = Tokenizer::assemble(inner, self.path.clone(), config, template)?;
        match ids.iter().find(|(token, id)| restricted.id(token) != Some(**id)) {
            None => Ok(restricted),
            Some((token, id)) => Err(bad(format!("its token `{token}` does not take the id `{id}`"))),
        }
    }
}

/// Gives the special tokens that a post-processor names their new ids: objects with `tokens` and `ids`, pairs of a token and
/// its id.
fn renumber(value: &mut Value, ids: &HashMap<String, u32>) {
    let id = |token: &Value| token.as_str().and_then(|token| ids.get(token)).copied();
    match value {
        Value::Object(fields) => {
            if let Some(tokens) = fields.get("tokens").and_then(Value::as_array) {
                let new: Option<Vec<u32>> = tokens.iter().map(id).collect();
                if let (Some(new), true) = (new, fields.contains_key("ids")) {
                    fields.insert("ids".to_owned(), new.into());
                }
            }
            fields.values_mut().for_each(|value| renumber(value, ids));
        }
        Value::Array(items) => match &items[..] {
            [token, number] if number.is_u64() => {
                if let Some(new) = id(token) {
                    items[1] = new.into();
                }
            }
            _ => items.iter_mut().for_each(|value| renumber(value, ids)),
        },
        _ => {}
    }
}

/// The merges by the pair that they merge: their rank, and the token that they make.
struct Merges(HashMap<(u32, u32), (usize, u32)>);

impl Merges {
    fn of(tokenizer: &Tokenizer) -> Self {
        let merge = |(rank, (left, right)): (usize, (String, String))| {
            let made = tokenizer.id(&format!("{left}{right}"))?;
            Some(((tokenizer.id(&left)?, tokenizer.id(&right)?), (rank, made)))
        };
        Self(tokenizer.merges().into_iter().enumerate().filter_map(merge).collect())
    }

    /// The token `id` and every token on the way to it from its bytes. A text's merges inside a token are those of the token
    /// alone: none goes beyond its ends, or it would not have come out. A token that merging its own bytes does not make, as
    /// whole words of some tokenizers, comes alone.
    fn way_to(&self, id: u32, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut made = vec![id];
        let text = tokenizer.token(id).unwrap_or_default();
        let bytes: Option<Vec<u32>> = text.chars().map(|byte| tokenizer.id(&byte.to_string())).collect();
        let Some(mut tokens) = bytes else { return made };
        let next = |tokens: &[u32]| {
            let merge = |(place, pair): (usize, &[u32])| {
                self.0.get(&(pair[0], pair[1])).map(|(rank, token)| (*rank, place, *token))
            };
            tokens.windows(2).enumerate().filter_map(merge).min()
        };
        while let Some((_, place, token)) = next(&tokens) {
            tokens.splice(place..place + 2, [token]);
            made.push(token);
        }
        if tokens != [id] {
            made.truncate(1);
        }
        made
    }
}

#[cfg(test)]
mod tests;

//! Ids to text as they come.

use tokenizers::tokenizer::step_decode_stream;

use super::Tokenizer;
use crate::error::DataError;

/// The text of ids that come one at a time, special tokens left out. What it has given so far is a beginning of
/// [`Tokenizer::decode`] of the same ids: characters come whole, when their last byte has come.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    /// The last ids, as many as tell what the next one adds.
    ids: Vec<u32>,
    /// The text of `ids` that was given.
    prefix: String,
    /// Of `ids`, those before are only there for what follows.
    prefix_index: usize,
}

impl TextStream {
    /// What `id` adds: nothing while a character is incomplete.
    ///
    /// # Errors
    /// A foreign tokenizer's decoder that fails; ours does not.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, DataError> {
        let Self { ids, prefix, prefix_index } = self;
        let text = step_decode_stream(&tokenizer.inner, vec![id], true, ids, prefix, prefix_index);
        Ok(text.map_err(failed)?.unwrap_or_default())
    }

    /// What is left: bytes that are no character become U+FFFD.
    ///
    /// # Errors
    /// As [`TextStream::push`].
    pub fn finish(self, tokenizer: &Tokenizer) -> Result<String, DataError> {
        let text = tokenizer.decode(&self.ids)?;
        Ok(text.strip_prefix(&self.prefix).unwrap_or_default().to_owned())
    }
}

fn failed(error: tokenizers::Error) -> DataError {
    DataError::Encode { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limbeck_random::Stream;

    fn tokenizer() -> Tokenizer {
        let text = "the café has 26 tables — naïve, 你好 мир 👋🏽 the café ".repeat(9);
        Tokenizer::train([Ok(text)].into_iter(), 300).unwrap()
    }

    fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = TextStream::default();
        let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(tokenizer, *id).unwrap()).collect();
        pieces.push(stream.finish(tokenizer).unwrap());
        pieces
    }

    #[test]
    fn characters_come_whole_with_their_last_byte() {
        let tokenizer = tokenizer();
        // Not among the texts: four bytes, a token each.
        let ids = tokenizer.encode("𝄞a").unwrap();
        assert_eq!(ids.len(), 5);
        assert_eq!(pieces(&tokenizer, &ids), ["", "", "", "𝄞", "a", ""]);
        assert_eq!(pieces(&tokenizer, &ids[..3]).concat(), tokenizer.decode(&ids[..3]).unwrap());
    }

    #[test]
    fn pieces_of_any_ids_are_the_text_of_them_all() {
        let tokenizer = tokenizer();
        let mut random = Stream::new(5);
        for case in 0..400 {
            let length = random.below(40);
            // Bytes of no character, special tokens, words.
            let ids: Vec<u32> = (0..length).map(|_| random.below(tokenizer.vocab_size() as u64) as u32).collect();
            let whole = tokenizer.decode(&ids).unwrap();
            let pieces = pieces(&tokenizer, &ids);
            assert_eq!(pieces.concat(), whole, "case {case}: {ids:?}");
        }
    }
}

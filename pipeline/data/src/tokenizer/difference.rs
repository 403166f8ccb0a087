//! Whether two tokenizers are one.

use std::fmt;

use super::Tokenizer;
use crate::error::{DataError, shortened};

/// Ids named in a message.
const NAMED: usize = 3;

/// How two tokenizers differ; no differences where they give every id the same meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerDifference {
    /// Ids whose token differs, with the token of each; `None` where one has no such id. In order.
    pub tokens: Vec<(u32, Option<String>, Option<String>)>,
    /// First merge that differs, where all tokens agree.
    pub merge: Option<usize>,
}

impl TokenizerDifference {
    /// Whether the two are one.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.merge.is_none()
    }
}

impl fmt::Display for TokenizerDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show =
            |token: &Option<String>| token.as_deref().map_or("nothing".to_owned(), |t| format!("`{}`", shortened(t)));
        if let Some(merge) = self.merge {
            return write!(formatter, "their tokens agree, but not their merge `{merge}`");
        }
        write!(formatter, "`{}` ids have other tokens: ", self.tokens.len())?;
        for (place, (id, one, other)) in self.tokens.iter().take(NAMED).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(formatter, "{comma}id `{id}` is {} in one and {} in the other", show(one), show(other))?;
        }
        if self.tokens.len() > NAMED { write!(formatter, ", …") } else { Ok(()) }
    }
}

impl Tokenizer {
    /// Which tokens differ between the two.
    pub fn difference(&self, other: &Tokenizer) -> TokenizerDifference {
        let ids = self.vocab_size().max(other.vocab_size()) as u32;
        let tokens: Vec<_> =
            (0..ids).map(|id| (id, self.token(id), other.token(id))).filter(|(_, one, other)| one != other).collect();
        let (ours, theirs) = (self.merges(), other.merges());
        let first = (0..ours.len().max(theirs.len())).find(|merge| ours.get(*merge) != theirs.get(*merge));
        TokenizerDifference { merge: first.filter(|_| tokens.is_empty()), tokens }
    }

    /// Refuses two tokenizers that differ: a distribution over one's ids says nothing about the other's.
    ///
    /// # Errors
    /// Names the first ids that differ.
    pub fn check_same(&self, other: &Tokenizer) -> Result<(), DataError> {
        let difference = self.difference(other);
        if difference.is_empty() {
            return Ok(());
        }
        Err(DataError::TokenizersDiffer { difference: difference.to_string() })
    }
}

//! Special tokens within texts.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::DataError;

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Plain text.
    Text(&'a str),
    /// A special token.
    Special(u32),
}

/// Finds special tokens by their text; the longest of those that begin at one place.
pub(crate) struct SpecialTokens {
    finder: AhoCorasick,
    tokens: Vec<(String, u32)>,
}

impl SpecialTokens {
    pub(super) fn new(tokens: Vec<(String, u32)>) -> Result<SpecialTokens, DataError> {
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(text, _)| text))
            .map_err(|error| DataError::Encode { reason: error.to_string() })?;
        Ok(SpecialTokens { finder, tokens })
    }

    pub(super) fn pieces<'a>(&self, text: &'a str) -> Vec<Piece<'a>> {
        let (mut pieces, mut end) = (Vec::new(), 0);
        for found in self.finder.find_iter(text) {
            if end < found.start() {
                pieces.push(Piece::Text(&text[end..found.start()]));
            }
            pieces.push(Piece::Special(self.tokens[found.pattern().as_usize()].1));
            end = found.end();
        }
        if end < text.len() {
            pieces.push(Piece::Text(&text[end..]));
        }
        pieces
    }

    /// Stand-ins for special tokens in `contents`, which are what people wrote and must stay text.
    pub(crate) fn guard<'a>(&'a self, contents: &[&str]) -> Result<Guard<'a>, DataError> {
        if !contents.iter().any(|content| self.finder.is_match(content)) {
            return Ok(Guard { special: self, first: None });
        }
        // One character of the private-use planes for each token: none that the contents use.
        let used: std::collections::BTreeSet<u32> = contents
            .iter()
            .flat_map(|content| content.chars())
            .map(u32::from)
            .filter(|code| *code >= 0xF_0000)
            .collect();
        let count = self.tokens.len() as u32;
        let free = |first: &u32| used.range(*first..*first + count).next().is_none();
        let plane =
            |start: u32| (start..).step_by(count as usize).take_while(move |first| first + count <= start + 0xFFFE);
        let first = plane(0xF_0000).chain(plane(0x10_0000)).find(free);
        let first = first.ok_or_else(|| DataError::Encode {
            reason: "a conversation has special tokens in its text and uses up the private-use characters".to_owned(),
        })?;
        Ok(Guard { special: self, first: Some(first) })
    }
}

/// Hides special tokens in what people wrote while a template is rendered around it.
pub(crate) struct Guard<'a> {
    special: &'a SpecialTokens,
    /// Stand-in of the first token, the others follow; `None` where nothing has to be hidden.
    first: Option<u32>,
}

impl Guard<'_> {
    /// `content` with a stand-in for each special token.
    pub(crate) fn hide(&self, content: &str) -> String {
        let Some(first) = self.first else { return content.to_owned() };
        let mut hidden = String::with_capacity(content.len());
        let finder = &self.special.finder;
        finder.replace_all_with(content, &mut hidden, |found, _, hidden| {
            hidden.extend(char::from_u32(first + found.pattern().as_u32()));
            true
        });
        hidden
    }

    /// Undoes [`Guard::hide`].
    pub(crate) fn show(&self, text: &str) -> String {
        let Some(first) = self.first else { return text.to_owned() };
        let mut shown = String::with_capacity(text.len());
        for character in text.chars() {
            match u32::from(character).checked_sub(first).and_then(|index| self.special.tokens.get(index as usize)) {
                Some((token, _)) => shown.push_str(token),
                None => shown.push(character),
            }
        }
        shown
    }
}

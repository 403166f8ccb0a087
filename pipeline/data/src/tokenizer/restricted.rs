//! Whether a tokenizer is another one restricted to some of its tokens.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Tokenizer;
use crate::error::{DataError, shortened};

impl Tokenizer {
    /// The ids that the tokens of this tokenizer have in `whole`, in the order of ours; `None` where the two are one. Byte-level
    /// tokens are what they spell, so that the same text is the same token.
    ///
    /// # Errors
    /// Unless this tokenizer is `whole` or what [`Tokenizer::restrict`] makes of it; the first token, merge or setting that
    /// differs is named.
    pub fn rows_in(&self, whole: &Tokenizer) -> Result<Option<Vec<u32>>, DataError> {
        if self.difference(whole).is_empty() {
            return Ok(None);
        }
        let rows = self.tokens_in(whole).and_then(|rows| {
            self.check_special(whole)?;
            self.check_merges(whole)?;
            Ok(rows)
        });
        let rows = rows.map_err(|difference| DataError::NotARestriction { difference })?;
        self.check_settings(whole)?;
        Ok(Some(rows))
    }

    fn tokens_in(&self, whole: &Tokenizer) -> Result<Vec<u32>, String> {
        let row = |id: u32| {
            let token = self.token(id).ok_or_else(|| format!("its id `{id}` has no token"))?;
            let token_is = |what: &str| format!("its token `{}` (id `{id}`) {what}", shortened(&token));
            whole.id(&token).ok_or_else(|| token_is("is not in the other"))
        };
        (0..self.vocab_size() as u32).map(row).collect()
    }

    /// The tokens that mark where texts and turns begin and end, and those that are no text.
    fn check_special(&self, whole: &Tokenizer) -> Result<(), String> {
        let places = [
            ("beginning of a text", self.begin_of_text, whole.begin_of_text),
            ("end of a text", self.end_of_text, whole.end_of_text),
            ("end of a turn", self.end_of_turn, whole.end_of_turn),
        ];
        for (place, ours, theirs) in places {
            let (ours, theirs) = (self.token(ours).unwrap_or_default(), whole.token(theirs).unwrap_or_default());
            if ours != theirs {
                return Err(format!("its token of the {place} is `{ours}` and `{theirs}` in the other"));
            }
        }
        let special = |tokenizer: &Tokenizer| -> BTreeSet<String> {
            let added = tokenizer.inner.get_added_tokens_decoder().into_values();
            added.filter(|token| token.special).map(|token| token.content).collect()
        };
        let (ours, theirs) = (special(self), special(whole));
        match ours.symmetric_difference(&theirs).next() {
            None => Ok(()),
            Some(token) => Err(format!("`{}` is a special token in one of them alone", shortened(token))),
        }
    }

    fn check_merges(&self, whole: &Tokenizer) -> Result<(), String> {
        let stays = |(left, right): &(String, String)| {
            self.id(left).is_some() && self.id(right).is_some() && self.id(&format!("{left}{right}")).is_some()
        };
        let expected: Vec<(String, String)> = whole.merges().into_iter().filter(stays).collect();
        let found = self.merges();
        let first = (0..expected.len().max(found.len())).find(|merge| expected.get(*merge) != found.get(*merge));
        let Some(merge) = first else { return Ok(()) };
        let show = |merge: Option<&(String, String)>| match merge {
            Some((left, right)) => format!("`{}` + `{}`", shortened(left), shortened(right)),
            None => "nothing".to_owned(),
        };
        let (found, expected) = (show(found.get(merge)), show(expected.get(merge)));
        Err(format!("its merge `{merge}` is {found}, and with its tokens the other's would be {expected}"))
    }

    /// What happens to a text before the merges.
    fn check_settings(&self, whole: &Tokenizer) -> Result<(), DataError> {
        let (ours, theirs) = (self.settings()?, whole.settings()?);
        match ["normalizer", "pre_tokenizer", "model"].into_iter().find(|key| ours[*key] != theirs[*key]) {
            None => Ok(()),
            Some(key) => {
                let difference = format!("its tokenizer.json has another `{key}`");
                Err(DataError::NotARestriction { difference })
            }
        }
    }

    /// `tokenizer.json`.
    pub(super) fn json(&self) -> Result<Value, DataError> {
        let bad =
            |error: serde_json::Error| DataError::BadTokenizer { path: self.path.clone(), reason: error.to_string() };
        serde_json::from_str(&self.to_json(false)?).map_err(bad)
    }

    /// `tokenizer.json` without vocabulary and merges.
    pub(super) fn settings(&self) -> Result<Value, DataError> {
        let mut json = self.json()?;
        if let Some(model) = json["model"].as_object_mut() {
            model.remove("vocab");
            model.remove("merges");
        }
        Ok(json)
    }
}

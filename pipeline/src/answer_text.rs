//! An answer's text as its tokens come.

use limbeck_data::{DataError, TextStream, Tokenizer};

/// The text of one answer, which ends before the first of its stop strings.
#[derive(Clone, Debug, Default)]
pub struct AnswerText {
    stream: TextStream,
    stop: Vec<String>,
    /// What could be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl AnswerText {
    /// `stop`: strings, none of them empty.
    pub fn new(stop: Vec<String>) -> Self {
        Self { stop, ..Self::default() }
    }

    /// What `token` adds that can be shown: whole characters, and nothing that a stop string may begin with.
    ///
    /// # Errors
    /// If the tokenizer cannot decode it.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String, DataError> {
        self.held += &self.stream.push(tokenizer, token)?;
        let text = self.up_to_stop();
        Ok(text)
    }

    /// Whether a stop string has come: the answer is over.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// What is left at the end of the answer.
    ///
    /// # Errors
    /// If the tokenizer cannot decode it.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String, DataError> {
        if self.stopped {
            return Ok(String::new());
        }
        self.held += &std::mem::take(&mut self.stream).finish(tokenizer)?;
        let text = self.up_to_stop();
        Ok(text + &std::mem::take(&mut self.held))
    }

    /// Takes out of `held` what no stop string can begin in.
    fn up_to_stop(&mut self) -> String {
        if let Some(place) = self.stop.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            self.held.truncate(place);
            return std::mem::take(&mut self.held);
        }
        let may_begin = |place: &usize| self.stop.iter().any(|stop| stop.starts_with(&self.held[*place..]));
        let places = self.held.char_indices().map(|(place, _)| place);
        let kept = places.into_iter().find(may_begin).unwrap_or(self.held.len());
        let rest = self.held.split_off(kept);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of `text`, a character at a time, and whether it stopped.
    fn shown(text: &str, stop: &[&str]) -> (Vec<String>, bool) {
        let mut answer = AnswerText::new(stop.iter().map(|stop| (*stop).to_owned()).collect());
        let mut pieces = Vec::new();
        for character in text.chars() {
            answer.held.push(character);
            pieces.push(answer.up_to_stop());
            if answer.has_stopped() {
                break;
            }
        }
        let stopped = answer.has_stopped();
        pieces.push(answer.held);
        (pieces, stopped)
    }

    #[test]
    fn nothing_of_a_stop_string_is_shown() {
        assert_eq!(shown("abENDc", &["END"]), (["a", "b", "", "", "", ""].map(String::from).to_vec(), true));
        // The beginning of one that does not come is held back for as long as it may.
        assert_eq!(shown("aENé", &["END"]), (["a", "", "", "ENé", ""].map(String::from).to_vec(), false));
        assert_eq!(shown("aaab", &["aab"]).0.concat(), "a");
        // The one that is complete first ends it.
        assert_eq!(shown("x y\nz", &["\nz", "y"]).0.concat(), "x ");
        assert_eq!(shown("xEN", &["END"]), (["x", "", "", "EN"].map(String::from).to_vec(), false));
        assert_eq!(shown("plain", &[]).0.concat(), "plain");
    }
}

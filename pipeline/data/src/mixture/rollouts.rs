//! Prompts cut from a batch, and batches of what a model went on with.

use limbeck_config::DataKind;
use limbeck_random::mix;

use super::Mixture;
use super::rows::RowWriter;
use crate::batch::{Batch, SegmentSpan};
use crate::packing::PackedRows;
use crate::segment::Segment;

/// The beginning of a segment, for a model to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// The segment, where the batch has it.
    pub segment: SegmentSpan,
}

/// A prompt and what a model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// What it was given.
    pub prompt: Prompt,
    /// What it said, at least one token.
    pub continuation: Vec<u32>,
}

impl Mixture {
    /// What a model can be asked to go on from in a batch of this mixture: at most one prompt a segment, so that the
    /// continuation's `max_new_tokens` fit in the row.
    ///
    /// Of a document, the first `prompt_tokens` of its segment. Of a conversation, everything up to one of the assistant's
    /// turns, another one each epoch; segments that were cut off from their conversation's beginning give none.
    pub fn prompts(&self, batch: &Batch, prompt_tokens: usize, max_new_tokens: usize) -> Vec<Prompt> {
        let longest = batch.sequence_length.saturating_sub(max_new_tokens);
        let length = |span: &SegmentSpan| match self.entries[span.entry].report.kind {
            DataKind::Documents => Some(prompt_tokens.min(span.length).min(longest)).filter(|length| *length > 0),
            DataKind::Chats => turn(batch, span, longest),
        };
        let prompt = |span: &SegmentSpan| {
            let first = span.row * batch.sequence_length + span.start;
            Some(Prompt { tokens: batch.inputs[first..first + length(span)?].to_vec(), segment: *span })
        };
        batch.segments.iter().filter_map(prompt).collect()
    }

    /// The rollouts as packed rows, of which the targets are exactly the tokens that were said.
    ///
    /// # Panics
    /// If a rollout has over `sequence_length + 1` tokens, or nothing was said.
    pub fn rollouts(&self, rollouts: &[Rollout]) -> Batch {
        let segment = |(index, rollout): (usize, &Rollout)| Segment {
            document: index as u64,
            segment: 0,
            length: (rollout.prompt.tokens.len() + rollout.continuation.len() - 1) as u32,
        };
        let segments = rollouts.iter().enumerate().map(segment).collect();
        let packed = PackedRows::pack(segments, self.sequence_length);
        let mut writer = RowWriter::new(packed.len(), self.sequence_length(), self.padding);
        for row in 0..packed.len() {
            for segment in packed.row(row) {
                let Rollout { prompt, continuation } = &rollouts[segment.document as usize];
                let tokens = [&prompt.tokens[..], continuation].concat();
                let pairs = tokens.windows(2).enumerate();
                let pairs = pairs.map(|(place, pair)| (pair[0], pair[1], place + 1 >= prompt.tokens.len()));
                writer.push_segment(SegmentSpan { length: segment.length as usize, ..prompt.segment }, pairs);
            }
            writer.end_row();
        }
        writer.finish()
    }
}

/// Tokens up to one of the assistant's turns, the one that the conversation and the epoch choose among those that are not
/// over `longest`.
fn turn(batch: &Batch, span: &SegmentSpan, longest: usize) -> Option<usize> {
    let first = span.row * batch.sequence_length + span.start;
    let counts = &batch.loss_mask[first..first + span.length];
    let begins = |place: &usize| counts[*place] && (*place == 0 || !counts[place - 1]);
    // The token at `place` is the last before the turn: the pair there has the turn's first as its target.
    let turns: Vec<usize> = (0..span.length.min(longest)).filter(begins).map(|place| place + 1).collect();
    if span.segment > 0 || turns.is_empty() {
        return None;
    }
    let choice = mix(&[span.entry as u64, span.document, span.epoch]) % turns.len() as u64;
    Some(turns[choice as usize])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LENGTH, Place};
    use super::*;

    #[test]
    fn prompts_are_the_beginnings_of_documents_and_what_comes_before_an_answer() {
        let place = Place::new();
        let mixture = place.open(64, 3);
        let batch = mixture.batch(0, 40);
        let (mut documents, mut chats) = (0, 0);
        for Prompt { tokens, segment } in mixture.prompts(&batch, 5, 9) {
            let first = segment.row * 64 + segment.start;
            assert_eq!(tokens, batch.inputs[first..first + tokens.len()]);
            if segment.entry == 0 {
                assert_eq!(tokens.len(), 5.min(segment.length));
                documents += 1;
            } else {
                // The whole question and the words that open the answer, and nothing of the answer.
                let text = place.tokenizer.decode(&tokens).expect("decoded");
                let question = text.strip_prefix("user\n").and_then(|text| text.split_once("\nassistant\n"));
                let (question, rest) = question.expect("a question");
                assert!(question.ends_with("two ") && rest.is_empty(), "{text}");
                assert!(batch.loss_mask[first + tokens.len() - 1] && !batch.loss_mask[first + tokens.len() - 2]);
                chats += 1;
            }
        }
        assert!(documents > 10 && chats > 10, "{documents} {chats}");
        let with_room = mixture.prompts(&batch, 5, 64 - 20);
        assert!(with_room.iter().all(|prompt| prompt.tokens.len() <= 20));
        assert!(with_room.len() < documents + chats, "long questions leave no room");
    }

    #[test]
    fn the_targets_of_rollouts_are_exactly_what_was_said() {
        let place = Place::new();
        let mixture = place.open(LENGTH, 3);
        let prompts = mixture.prompts(&mixture.batch(0, 9), 4, 6);
        let rollouts: Vec<Rollout> = (0u32..)
            .zip(&prompts)
            .map(|(index, prompt)| {
                let continuation = (0..index % 6 + 1).map(|place| 100 + index * 10 + place).collect();
                Rollout { prompt: prompt.clone(), continuation }
            })
            .collect();
        let batch = mixture.rollouts(&rollouts);
        assert!(batch.rows < rollouts.len(), "they share rows");
        assert_eq!(batch.inputs.len(), batch.rows * LENGTH);
        let mut said: Vec<Vec<u32>> = Vec::new();
        for span in &batch.segments {
            let pairs = span.row * LENGTH + span.start..span.row * LENGTH + span.start + span.length;
            let targets = pairs.clone().filter(|place| batch.loss_mask[*place]).map(|place| batch.targets[place]);
            said.push(targets.collect());
            assert!(batch.positions[pairs.clone()].iter().copied().eq(0..span.length as u32));
            assert!(pairs.clone().skip(1).all(|place| batch.inputs[place] == batch.targets[place - 1]));
        }
        said.sort();
        let mut expected: Vec<Vec<u32>> = rollouts.into_iter().map(|rollout| rollout.continuation).collect();
        expected.sort();
        assert_eq!(said, expected);
        assert_eq!(batch.target_tokens(), expected.iter().map(Vec::len).sum::<usize>());
    }
}

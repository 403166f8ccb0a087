//! `generate --chat`: a conversation on a terminal or through pipes.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, anyhow};
use limbeck_data::{Message, Role};
use limbeck_model::{Ended, Generation, RunningBatch, Sampling};
use limbeck_train::say;
use signal_hook::consts::SIGINT;

use crate::answer_text::AnswerText;
use crate::failure::{Completion, Failure};
use crate::interrupt::Interrupt;
use crate::output;
use crate::source::Source;

/// Of the context, what is kept free for an answer at least, unless fewer tokens are asked for: one part in this many.
const FREE_SHARE: usize = 4;

/// How a conversation goes.
#[derive(Clone, Debug)]
pub struct ChatSettings {
    /// A turn before all others, which is never dropped.
    pub system: Option<String>,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Every answer has draws of its own.
    pub sampling: Sampling,
}

/// A conversation so far.
struct Conversation<'a> {
    source: &'a Source,
    settings: &'a ChatSettings,
    interrupt: &'a Interrupt,
    batch: RunningBatch,
    messages: Vec<Message>,
    answers: u64,
}

/// Answers the lines of stdin, a user's turn each, until its end. Answers go to stdout as they come, everything else to
/// stderr. On a terminal, Ctrl-C ends the answer, or at the prompt the conversation; in a pipe, both.
///
/// # Errors
/// Without a chat template; in a pipe, a turn that leaves no room for an answer.
pub fn run(source: &Source, settings: &ChatSettings) -> Result<Completion, Failure> {
    let interrupt = Interrupt::listen()?;
    let system = settings.system.iter().map(|text| Message::new(Role::System, text));
    let batch = RunningBatch::new(&source.model);
    let mut chat = Conversation { source, settings, interrupt, batch, messages: system.collect(), answers: 0 };
    // A template that does not go with these messages is no surprise after the first turn.
    let probe = [&chat.messages[..], &[Message::new(Role::User, "")]].concat();
    source.tokenizer.encode_prompt(&probe).map_err(Failure::usage)?;
    let is_terminal = std::io::stdin().is_terminal();
    let mut lines = std::io::stdin().lock();
    loop {
        interrupt.end_at_next_signal(is_terminal);
        if is_terminal {
            // Nobody to see it is no error.
            let _ = write!(std::io::stderr(), "> ");
        }
        let Some(line) = next_line(&mut lines)? else { break };
        interrupt.end_at_next_signal(false);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        match chat.answer(line) {
            Err(refused) if is_terminal && refused.status() == 2 => say!("{refused}"),
            answered => answered?,
        }
        match interrupt.signal() {
            Some(signal) if signal != SIGINT || !is_terminal => return Ok(Completion::Stopped { signal }),
            _ => {}
        }
    }
    if is_terminal {
        say!();
    }
    Ok(Completion::Complete { path: None })
}

/// `None` at the end of stdin.
fn next_line(lines: &mut impl BufRead) -> Result<Option<String>, Failure> {
    let mut line = Vec::new();
    let read = lines.read_until(b'\n', &mut line).context("cannot read stdin").map_err(Failure::run)?;
    let line = String::from_utf8(line)
        .map_err(|_| Failure::usage(anyhow!("stdin has a line that is not UTF-8; hint: convert it with iconv")))?;
    Ok((read > 0).then_some(line))
}

impl Conversation<'_> {
    /// # Errors
    /// Status 2 for a turn that leaves no room for an answer: it is as if it had not been said.
    fn answer(&mut self, line: &str) -> Result<(), Failure> {
        self.messages.push(Message::new(Role::User, line));
        let prompt = self.prompt().inspect_err(|_| {
            self.messages.pop();
        })?;
        let tokenizer = &self.source.tokenizer;
        let generation = Generation {
            max_new_tokens: self.settings.max_new_tokens,
            stop: tokenizer.stop_ids(),
            sampling: self.settings.sampling.stream(self.answers),
        };
        let row = self.batch.join(prompt, generation).map_err(Failure::usage)?;
        let (mut text, mut said) = (AnswerText::default(), String::new());
        let mut show = |piece: String| {
            said += &piece;
            output::piece(piece)
        };
        while self.batch.rows() > 0 && self.interrupt.signal().is_none() {
            for token in self.batch.step() {
                if token.ended != Some(Ended::Stop) {
                    show(text.push(tokenizer, token.token).map_err(Failure::run)?)?;
                }
            }
        }
        self.batch.leave(row);
        show(text.finish(tokenizer).map_err(Failure::run)?)?;
        output::line("")?;
        self.messages.push(Message::new(Role::Assistant, said));
        self.answers += 1;
        Ok(())
    }

    /// The conversation's tokens, once the oldest turns are dropped that leave no room for an answer.
    fn prompt(&mut self) -> Result<Vec<u32>, Failure> {
        let context = self.source.model.config().max_position_embeddings;
        let longest = context - self.settings.max_new_tokens.min(context / FREE_SHARE).max(1);
        let first = usize::from(self.settings.system.is_some());
        let mut dropped = 0;
        loop {
            let prompt = self.source.tokenizer.encode_prompt(&self.messages).map_err(Failure::usage)?;
            if prompt.len() <= longest {
                if dropped > 0 {
                    say!("context: the oldest {dropped} turns were dropped, for the conversation is too long");
                }
                return Ok(prompt);
            }
            // A user's turn with what was said to it.
            let next = self.messages[first + 1..].iter().position(|message| message.role == Role::User);
            let Some(next) = next else {
                let tokens = prompt.len();
                return Err(Failure::usage(anyhow!(
                    "the turn has `{tokens}` tokens, must have at most `{longest}` of the model's context of `{context}`; \
                     hint: shorten it"
                )));
            };
            self.messages.drain(first..first + 1 + next);
            dropped += 1 + next;
        }
    }
}

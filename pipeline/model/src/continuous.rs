//! Answers that begin and end at different times, generated together.

use limbeck_kernels::CacheAngles;
use rayon::prelude::*;

use crate::cache::{Cache, angles};
use crate::error::ModelError;
use crate::generate::{Generation, check};
use crate::transformer::Transformer;

/// Tokens of prompts that a step reads, about: so long do answers that are under way wait at most. Prompts are read in
/// pieces that begin at multiples of it, whatever else there is to do, so that an answer's bits depend on its prompt alone.
const PIECE: usize = 256;

/// Tokens of an answer that there is room for from its beginning: few are as long as they may be.
const FIRST_ROOM: usize = 64;

/// A batch that rows join and leave between steps (continuous batching: Yu et al. 2022, "Orca", OSDI). Each row is kept in a
/// cache of its own, so that no other one is touched by it.
#[derive(Debug)]
pub struct RunningBatch {
    model: Transformer,
    angles: CacheAngles,
    rows: Vec<Row>,
    joined: u64,
    steps: u64,
}

/// Names a row of a [`RunningBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Joined(u64);

/// A row's next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Whose.
    pub row: Joined,
    /// Which.
    pub token: u32,
    /// Whether it is the row's last one: it has left the batch then.
    pub ended: Option<Ended>,
}

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A stop token.
    Stop,
    /// `max_new_tokens`, or the model's `max_position_embeddings`.
    Length,
}

#[derive(Debug)]
struct Row {
    name: Joined,
    prompt: Vec<u32>,
    /// Tokens of the prompt that the cache holds.
    read: usize,
    /// The last step that read a piece of it.
    read_at: u64,
    cache: Cache,
    generation: Generation,
    /// Tokens of the answer at most.
    room: usize,
    answered: usize,
    /// The last token that was chosen.
    last: u32,
}

impl RunningBatch {
    /// An empty batch.
    pub fn new(model: &Transformer) -> Self {
        let model = model.clone().without_autodiff();
        let angles = angles(model.config(), model.config().max_position_embeddings, &model.device());
        Self { model, angles, rows: Vec::new(), joined: 0, steps: 0 }
    }

    /// Adds a prompt. Its answer is that of [`generate`](crate::generate()) for the prompt alone, with at least one token; on
    /// the CPU it has the same bits whatever other rows there are.
    ///
    /// # Errors
    /// As [`generate`](crate::generate()).
    pub fn join(&mut self, prompt: Vec<u32>, generation: Generation) -> Result<Joined, ModelError> {
        check(&self.model, std::slice::from_ref(&prompt))?;
        let (config, device) = (self.model.config(), self.model.device());
        let room = generation.max_new_tokens.clamp(1, config.max_position_embeddings - prompt.len());
        let capacity = prompt.len() + room.min(FIRST_ROOM);
        let cache = Cache::with_angles(config, vec![0], capacity, self.angles.clone(), &device);
        let name = Joined(self.joined);
        self.joined += 1;
        self.rows.push(Row { name, prompt, read: 0, read_at: 0, cache, generation, room, answered: 0, last: 0 });
        Ok(name)
    }

    /// Takes a row out, if it is still there.
    pub fn leave(&mut self, row: Joined) {
        self.rows.retain(|other| other.name != row);
    }

    /// Rows that have not ended.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Gives every row that has read its prompt a token, and reads pieces of the others', those first that have waited
    /// longest: no long prompt is in the way of a short one. Rows that end leave.
    pub fn step(&mut self) -> Vec<NewToken> {
        self.steps += 1;
        let mut tokens = self.answer();
        tokens.extend(self.read());
        let ended = |name: Joined| tokens.iter().any(|token| token.row == name && token.ended.is_some());
        self.rows.retain(|row| !ended(row.name));
        tokens
    }

    /// One pass for all rows that have said something.
    fn answer(&mut self) -> Vec<NewToken> {
        let mut rows: Vec<&mut Row> = self.rows.iter_mut().filter(|row| row.answered > 0).collect();
        if rows.is_empty() {
            return Vec::new();
        }
        for row in &mut rows {
            row.cache.reserve(1, row.prompt.len() + row.room);
        }
        let inputs: Vec<u32> = rows.iter().map(|row| row.last).collect();
        let mut caches: Vec<&mut Cache> = rows.iter_mut().map(|row| &mut row.cache).collect();
        let logits = self.model.next_logits_each(&inputs, &mut caches).into_data();
        let logits: Vec<f32> = logits.convert::<f32>().try_into_vec().expect("converted to 32-bit floats");
        let logits = logits.par_chunks(self.model.config().vocab_size);
        rows.into_par_iter().zip(logits).map(|(row, logits)| row.choose(logits)).collect()
    }

    /// Those that are read to their end get their first token.
    fn read(&mut self) -> Vec<NewToken> {
        let (mut tokens, mut left) = (Vec::new(), PIECE);
        let mut rows: Vec<&mut Row> = self.rows.iter_mut().filter(|row| row.answered == 0).collect();
        // Stable: of those that have waited as long, the one that came first.
        rows.sort_by_key(|row| row.read_at);
        for row in rows {
            let piece = &row.prompt[row.read..(row.read + PIECE).min(row.prompt.len())];
            let logits = self.model.next_logits(piece, piece.len(), &mut row.cache);
            (row.read, row.read_at) = (row.read + piece.len(), self.steps);
            left = left.saturating_sub(piece.len());
            if row.read == row.prompt.len() {
                let logits: Vec<f32> =
                    logits.into_data().convert::<f32>().try_into_vec().expect("converted to 32-bit floats");
                tokens.push(row.choose(&logits));
            }
            if left == 0 {
                break;
            }
        }
        tokens
    }
}

impl Row {
    fn choose(&mut self, logits: &[f32]) -> NewToken {
        let token = self.generation.sampling.choose(logits, 0, self.answered);
        self.answered += 1;
        self.last = token;
        let ended = match () {
            () if self.generation.stop.contains(&token) => Some(Ended::Stop),
            () if self.answered >= self.room => Some(Ended::Length),
            () => None,
        };
        NewToken { row: self.name, token, ended }
    }
}

#[cfg(test)]
mod tests;

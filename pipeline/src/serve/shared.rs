//! What the threads that speak HTTP know of the model, and their way to it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use limbeck_data::Tokenizer;
use limbeck_model::{Generation, Sampling};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::ServeSettings;
use super::error::ApiError;
use super::request::ChatRequest;
use crate::source::Source;

/// Requests that wait for a place in the batch, at most.
pub(super) const QUEUE: usize = 64;

/// An answer that is to be generated.
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) generation: Generation,
    /// Strings that end it.
    pub(super) stop: Vec<String>,
    /// Closed once the client is gone. Without bounds, so that no client makes the others wait: the answer's length is one.
    pub(super) events: UnboundedSender<Event>,
}

/// What comes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// More of its text, whole characters.
    Text(String),
    /// Its end.
    End(Finish),
    /// It cannot go on.
    Failed(String),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finish {
    /// OpenAI's `finish_reason`.
    pub(super) reason: &'static str,
    /// Tokens that were generated, the one that ended it included.
    pub(super) completion_tokens: usize,
}

/// A request that is being answered.
pub(super) struct Asked {
    pub(super) request: ChatRequest,
    pub(super) prompt_tokens: usize,
    pub(super) events: UnboundedReceiver<Event>,
}

/// How busy the engine is.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Answers under way.
    pub(super) running: AtomicUsize,
    /// Requests that wait.
    pub(super) waiting: AtomicUsize,
    /// Tokens since the start.
    pub(super) generated: AtomicU64,
}

/// What is known on every thread.
pub(super) struct Shared {
    pub(super) tokenizer: Tokenizer,
    pub(super) name: String,
    /// Of the weights.
    pub(super) fingerprint: String,
    /// Tokens of a prompt and its answer at most.
    pub(super) context: usize,
    max_new_tokens: usize,
    sampling: Sampling,
    jobs: SyncSender<Job>,
    pub(super) stopping: AtomicBool,
    pub(super) load: Load,
    /// Start of the server, in seconds since 1970.
    pub(super) started: u64,
    asked: AtomicU64,
    random: RandomState,
}

impl Shared {
    /// With the engine's end of the queue.
    pub(super) fn new(source: Source, settings: &ServeSettings) -> (Self, Receiver<Job>) {
        let (jobs, queue) = sync_channel(QUEUE);
        let shared = Self {
            name: source.name(),
            fingerprint: format!("fp_{:.12}", source.parent.hash),
            context: source.model.config().max_position_embeddings,
            tokenizer: source.tokenizer,
            max_new_tokens: settings.max_new_tokens,
            sampling: settings.sampling,
            jobs,
            stopping: AtomicBool::new(false),
            load: Load::default(),
            started: now(),
            asked: AtomicU64::new(0),
            random: RandomState::new(),
        };
        (shared, queue)
    }

    /// Queues the answer to a request's body. Takes its time over long texts.
    ///
    /// # Errors
    /// What is wrong with it; a conversation without room for an answer; a queue that is full.
    pub(super) fn ask(&self, body: &[u8]) -> Result<Asked, ApiError> {
        let request = ChatRequest::parse(body)?;
        if let Some(model) = request.model.as_ref().filter(|model| **model != self.name) {
            let message = format!("there is no model `{model}`; hint: this server has `{}`", self.name);
            let error = ApiError::new(StatusCode::NOT_FOUND, Some("model_not_found"), message);
            return Err(ApiError { param: Some("model".to_owned()), ..error });
        }
        let prompt = self.tokenizer.encode_prompt(&request.messages)?;
        if prompt.len() >= self.context {
            let (tokens, context) = (prompt.len(), self.context);
            let message = format!(
                "the messages have `{tokens}` tokens, must have fewer than this model's maximum context length of \
                 `{context}` tokens; hint: shorten them"
            );
            return Err(ApiError { code: Some("context_length_exceeded"), ..ApiError::bad("messages", message) });
        }
        let mut sampling = request.sampling(self.sampling);
        if request.seed.is_none() {
            sampling = sampling.stream(self.drawn());
        }
        let generation = Generation {
            max_new_tokens: request.max_new_tokens.unwrap_or(usize::MAX).min(self.max_new_tokens),
            stop: self.tokenizer.stop_ids(),
            sampling,
        };
        let prompt_tokens = prompt.len();
        let (sender, events) = unbounded_channel();
        self.queue(Job { prompt, generation, stop: request.stop.clone(), events: sender })?;
        Ok(Asked { request, prompt_tokens, events })
    }

    fn queue(&self, job: Job) -> Result<(), ApiError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(ApiError::stopping());
        }
        self.load.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(job).map_err(|error| {
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Disconnected(_) => ApiError::stopping(),
                TrySendError::Full(_) => ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Some("server_overloaded"),
                    format!("`{QUEUE}` requests are waiting already; hint: try again later"),
                ),
            }
        })
    }

    /// The next answer's name.
    pub(super) fn completion_id(&self) -> String {
        let count = self.asked.fetch_add(1, Ordering::Relaxed);
        format!("chatcmpl-{:016x}{count:08x}", self.drawn())
    }

    /// Another number every time, and for every server.
    fn drawn(&self) -> u64 {
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.asked.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

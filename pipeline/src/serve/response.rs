//! What a client gets: an answer in one piece or as server-sent events, and the list of models.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use axum::http::StatusCode;
use futures_core::Stream;
use serde_json::{Value, json};

use super::error::ApiError;
use super::shared::{Asked, Event, Finish, Shared, now};

/// What all parts of an answer have in common.
struct Envelope {
    shared: Arc<Shared>,
    id: String,
    created: u64,
    prompt_tokens: usize,
}

impl Envelope {
    fn new(shared: Arc<Shared>, prompt_tokens: usize) -> Self {
        Self { id: shared.completion_id(), created: now(), shared, prompt_tokens }
    }

    fn object(&self, kind: &str, choices: Value) -> Value {
        let Self { shared, id, created, .. } = self;
        json!({
            "id": id, "object": kind, "created": created, "model": shared.name,
            "system_fingerprint": shared.fingerprint, "choices": choices,
        })
    }

    fn usage(&self, completion_tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        })
    }
}

/// The whole answer, once it has ended.
///
/// # Errors
/// If it does not come to its end.
pub(super) async fn completion(shared: Arc<Shared>, mut asked: Asked) -> Result<Value, ApiError> {
    let envelope = Envelope::new(shared, asked.prompt_tokens);
    let mut content = String::new();
    loop {
        match asked.events.recv().await {
            Some(Event::Text(text)) => content += &text,
            Some(Event::End(Finish { reason, completion_tokens })) => {
                let message = json!({ "role": "assistant", "content": content, "refusal": null });
                let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": reason });
                let mut completion = envelope.object("chat.completion", json!([choice]));
                completion["usage"] = envelope.usage(completion_tokens);
                return Ok(completion);
            }
            other => return Err(broken_off(other)),
        }
    }
}

fn broken_off(event: Option<Event>) -> ApiError {
    match event {
        Some(Event::Failed(message)) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, None, message),
        _ => ApiError::stopping(),
    }
}

/// An answer as it comes.
pub(super) struct Chunks {
    envelope: Envelope,
    asked: Asked,
    /// The first one says who speaks.
    begun: bool,
    ended: bool,
}

impl Chunks {
    pub(super) fn new(shared: Arc<Shared>, asked: Asked) -> Self {
        Self { envelope: Envelope::new(shared, asked.prompt_tokens), asked, begun: false, ended: false }
    }

    fn chunk(&self, delta: Value, reason: Option<&str>) -> String {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason });
        let mut chunk = self.envelope.object("chat.completion.chunk", json!([choice]));
        if self.asked.request.include_usage {
            chunk["usage"] = Value::Null;
        }
        event(&chunk)
    }

    fn text_of(&mut self, event_of_answer: Option<Event>) -> String {
        match event_of_answer {
            Some(Event::Text(text)) => self.chunk(json!({ "content": text }), None),
            Some(Event::End(Finish { reason, completion_tokens })) => {
                self.ended = true;
                let mut last = self.chunk(json!({}), Some(reason));
                if self.asked.request.include_usage {
                    let mut chunk = self.envelope.object("chat.completion.chunk", json!([]));
                    chunk["usage"] = self.envelope.usage(completion_tokens);
                    last += &event(&chunk);
                }
                last + "data: [DONE]\n\n"
            }
            other => {
                self.ended = true;
                event(&broken_off(other).body())
            }
        }
    }
}

/// JSON has no line breaks of its own.
fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let text = if this.begun {
            let event = ready!(this.asked.events.poll_recv(context));
            this.text_of(event)
        } else {
            this.begun = true;
            this.chunk(json!({ "role": "assistant", "content": "", "refusal": null }), None)
        };
        Poll::Ready(Some(Ok(Bytes::from(text))))
    }
}

/// The model as an entry of the list of models.
pub(super) fn model(shared: &Shared) -> Value {
    json!({ "id": shared.name, "object": "model", "created": shared.started, "owned_by": "limbeck" })
}

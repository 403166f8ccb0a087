//! What a client gets: an answer in one piece or as server-sent events, and the list of models.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value, json};

use super::error::ApiError;
use super::http;
use super::shared::{Asked, Event, Finish, Shared, now};

/// What all parts of an answer have in common.
struct Envelope {
    shared: Arc<Shared>,
    id: String,
    created: u64,
    prompt_tokens: usize,
}

impl Envelope {
    fn new(shared: &Arc<Shared>, prompt_tokens: usize) -> Self {
        Self { id: shared.completion_id(), created: now(), shared: Arc::clone(shared), prompt_tokens }
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
pub(super) fn completion(shared: &Arc<Shared>, asked: &Asked) -> Result<Value, ApiError> {
    let envelope = Envelope::new(shared, asked.prompt_tokens);
    let mut content = String::new();
    loop {
        match asked.events.recv().ok() {
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
        Some(Event::Failed(message)) => ApiError::new(500, None, message),
        _ => ApiError::stopping(),
    }
}

/// Writes an answer as it comes.
///
/// # Errors
/// If the client is gone.
pub(super) fn stream_completion(stream: &mut TcpStream, shared: &Arc<Shared>, asked: &Asked) -> io::Result<()> {
    http::write_head(stream, 200, "text/event-stream", None)?;
    let chunks = Chunks { envelope: Envelope::new(shared, asked.prompt_tokens), asked };
    let role = json!({ "role": "assistant", "content": "", "refusal": null });
    stream.write_all(chunks.chunk(role, None).as_bytes())?;
    loop {
        let (text, ended) = chunks.next(asked.events.recv().ok());
        stream.write_all(text.as_bytes())?;
        if ended {
            return Ok(());
        }
    }
}

/// The events of a stream.
struct Chunks<'a> {
    envelope: Envelope,
    asked: &'a Asked,
}

impl Chunks<'_> {
    fn chunk(&self, delta: Value, reason: Option<&str>) -> String {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason });
        let mut chunk = self.envelope.object("chat.completion.chunk", json!([choice]));
        if self.asked.request.include_usage {
            chunk["usage"] = Value::Null;
        }
        event(&chunk)
    }

    /// What comes next, and whether nothing comes after it.
    fn next(&self, next: Option<Event>) -> (String, bool) {
        match next {
            Some(Event::Text(text)) => (self.chunk(json!({ "content": text }), None), false),
            Some(Event::End(Finish { reason, completion_tokens })) => {
                let mut last = self.chunk(json!({}), Some(reason));
                if self.asked.request.include_usage {
                    let mut chunk = self.envelope.object("chat.completion.chunk", json!([]));
                    chunk["usage"] = self.envelope.usage(completion_tokens);
                    last += &event(&chunk);
                }
                (last + "data: [DONE]\n\n", true)
            }
            other => (event(&broken_off(other).body()), true),
        }
    }
}

/// JSON has no line breaks of its own.
fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// The model as an entry of the list of models.
pub(super) fn model(shared: &Shared) -> Value {
    json!({ "id": shared.name, "object": "model", "created": shared.started, "owned_by": "limbeck" })
}

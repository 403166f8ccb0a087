//! Paths and methods.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::error::ApiError;
use super::http::{self, Request};
use super::response::{completion, model, stream_completion};
use super::shared::Shared;

const CHAT: &str = "/v1/chat/completions";
const MODELS: &str = "/v1/models";
const HEALTH: &str = "/health";

/// Answers a request of a client, who is there until `gone` is set.
///
/// # Errors
/// If the client is gone.
pub(super) fn answer(
    stream: &mut TcpStream,
    request: &Request,
    shared: &Arc<Shared>,
    gone: &Arc<AtomicBool>,
) -> io::Result<()> {
    if request.path == CHAT && request.method == "POST" {
        return chat(stream, request, shared, gone);
    }
    tell(stream, respond(request, shared))
}

fn chat(stream: &mut TcpStream, request: &Request, shared: &Arc<Shared>, gone: &Arc<AtomicBool>) -> io::Result<()> {
    match shared.ask(&request.body, gone) {
        Ok(asked) if asked.request.stream => stream_completion(stream, shared, &asked),
        Ok(asked) => tell(stream, completion(shared, &asked)),
        Err(error) => tell(stream, Err(error)),
    }
}

fn tell(stream: &mut TcpStream, answer: Result<Value, ApiError>) -> io::Result<()> {
    match answer {
        Ok(json) => http::write(stream, 200, &json.to_string()),
        Err(error) => http::write(stream, error.status, &error.body().to_string()),
    }
}

fn respond(request: &Request, shared: &Shared) -> Result<Value, ApiError> {
    let path = request.path.as_str();
    let answer = match path {
        HEALTH => health(shared),
        MODELS => json!({ "object": "list", "data": [model(shared)] }),
        CHAT => return Err(wrong_method(request)),
        _ => match path.strip_prefix(MODELS).and_then(|rest| rest.strip_prefix('/')) {
            Some(name) if name == shared.name => model(shared),
            Some(name) => return Err(shared.no_model(name)),
            None => {
                let message =
                    format!("there is no `{path}`; hint: this server has POST {CHAT}, GET {MODELS} and GET {HEALTH}");
                return Err(ApiError::new(404, Some("unknown_url"), message));
            }
        },
    };
    if request.method == "GET" { Ok(answer) } else { Err(wrong_method(request)) }
}

fn wrong_method(request: &Request) -> ApiError {
    let message = format!("`{}` does not take `{}`", request.path, request.method);
    ApiError::new(405, Some("method_not_allowed"), message)
}

fn health(shared: &Shared) -> Value {
    let load = &shared.load;
    json!({
        "status": "ok",
        "running": load.running.load(Ordering::Relaxed),
        "waiting": load.waiting.load(Ordering::Relaxed),
        "generated_tokens": load.generated.load(Ordering::Relaxed),
    })
}

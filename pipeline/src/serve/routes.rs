//! Paths and methods.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::error::ApiError;
use super::response::{Chunks, completion, model};
use super::shared::Shared;

/// Bytes of a request at most.
const BODY_BYTES: usize = 4 << 20;

/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);

/// Everything that there is.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(named_model))
        .route("/v1/chat/completions", post(chat))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let load = &shared.load;
    json_response(&json!({
        "status": "ok",
        "running": load.running.load(Ordering::Relaxed),
        "waiting": load.waiting.load(Ordering::Relaxed),
        "generated_tokens": load.generated.load(Ordering::Relaxed),
    }))
}

async fn models(State(shared): State<Arc<Shared>>) -> Response {
    json_response(&json!({ "object": "list", "data": [model(&shared)] }))
}

async fn named_model(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    if name == shared.name {
        return Ok(json_response(&model(&shared)));
    }
    let message = format!("there is no model `{name}`; hint: this server has `{}`", shared.name);
    Err(ApiError::new(StatusCode::NOT_FOUND, Some("model_not_found"), message))
}

async fn chat(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, ApiError> {
    let body = body(request).await?;
    let asked = {
        let shared = Arc::clone(&shared);
        // A long text takes a while to be cut into tokens.
        let asked = tokio::task::spawn_blocking(move || shared.ask(&body)).await;
        asked.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, None, error.to_string()))??
    };
    if !asked.request.stream {
        return Ok(json_response(&completion(shared, asked).await?));
    }
    let mut response = Response::new(Body::from_stream(Chunks::new(shared, asked)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

async fn body(request: Request) -> Result<Bytes, ApiError> {
    let arriving = to_bytes(request.into_body(), BODY_BYTES);
    match tokio::time::timeout(ARRIVAL, arriving).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => {
            let message = format!("the body did not arrive whole, must have at most `{BODY_BYTES}` bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, None, message))
        }
        Err(_) => {
            let message = format!("the body did not arrive within `{}` seconds", ARRIVAL.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, None, message))
        }
    }
}

async fn no_such_path(uri: Uri) -> ApiError {
    let message = format!(
        "there is no `{}`; hint: this server has POST /v1/chat/completions, GET /v1/models and GET /health",
        uri.path()
    );
    ApiError::new(StatusCode::NOT_FOUND, Some("unknown_url"), message)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("`{}` does not take `{method}`", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_allowed"), message)
}

fn json_response(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

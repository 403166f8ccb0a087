//! What a client is told that is not answered, as OpenAI's API has it.

use limbeck_data::DataError;
use serde_json::{Value, json};

/// Why a request is not answered.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    /// Of HTTP.
    pub(super) status: u16,
    /// OpenAI's word for the case.
    pub(super) code: Option<&'static str>,
    /// Which part of the request.
    pub(super) param: Option<String>,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, code, param: None, message: message.into() }
    }

    /// A request that is wrong in itself.
    pub(super) fn bad(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(400, None, message) }
    }

    /// A part of a request that there is no support for.
    pub(super) fn unsupported(param: &str, message: impl Into<String>) -> Self {
        Self { code: Some("unsupported_parameter"), ..Self::bad(param, message) }
    }

    /// The server ends.
    pub(super) fn stopping() -> Self {
        Self::new(503, Some("shutting_down"), "the server is shutting down")
    }

    /// The body of the response, and of the event that ends a stream.
    pub(super) fn body(&self) -> Value {
        let kind = if self.status < 500 { "invalid_request_error" } else { "server_error" };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }
}

impl From<DataError> for ApiError {
    /// Of a conversation that the chat template refuses.
    fn from(error: DataError) -> Self {
        Self::bad("messages", error.to_string())
    }
}

//! The body of a chat completion request. Everything in it is understood or refused by name.

use axum::http::StatusCode;
use limbeck_data::{Message, Role};
use limbeck_model::Sampling;
use serde_json::{Map, Value, json};

use super::error::ApiError;

/// Stop strings at most, as OpenAI has it.
const STOP_STRINGS: usize = 4;

/// What does not change an answer here.
const WITHOUT_EFFECT: [&str; 7] =
    ["user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key"];

/// A request that makes sense, whatever the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChatRequest {
    pub(super) model: Option<String>,
    pub(super) messages: Vec<Message>,
    /// `None`: as many as there is room for.
    pub(super) max_new_tokens: Option<usize>,
    /// `None` where the request does not say: the server's own.
    pub(super) seed: Option<u64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) stream: bool,
    /// Whether a stream ends with the counts of tokens.
    pub(super) include_usage: bool,
}

/// The fields of the body that have not been looked at.
struct Fields(Map<String, Value>);

impl ChatRequest {
    /// # Errors
    /// If it is not JSON, or a field is missing, wrong, or not supported.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let refused = |message: String| ApiError::new(StatusCode::BAD_REQUEST, None, message);
        let body: Value =
            serde_json::from_slice(body).map_err(|error| refused(format!("the body is not JSON: {error}")))?;
        let Value::Object(fields) = body else {
            return Err(refused("the body must be a JSON object".to_owned()));
        };
        let mut fields = Fields::of(fields);
        let (include_usage, stream) = (fields.include_usage()?, fields.flag("stream")?);
        let request = Self {
            model: fields.text("model")?,
            messages: messages(fields.0.remove("messages"))?,
            max_new_tokens: fields.max_new_tokens()?,
            seed: fields.seed()?,
            temperature: fields.number("temperature", |value| (0.0..=2.0).contains(&value), "from `0` to `2`")?,
            top_p: fields.number("top_p", |value| value > 0.0 && value <= 1.0, "over `0` and at most `1`")?,
            top_k: fields.count("top_k")?,
            stop: fields.stop()?,
            stream,
            include_usage,
        };
        fields.nothing_else()?;
        Ok(request)
    }

    /// How its tokens are drawn where `defaults` are the server's.
    pub(super) fn sampling(&self, defaults: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            top_k: self.top_k.or(defaults.top_k),
            seed: self.seed.unwrap_or(defaults.seed),
        }
    }
}

impl Fields {
    /// Null is as good as nothing.
    fn of(mut fields: Map<String, Value>) -> Self {
        fields.retain(|_, value| !value.is_null());
        Self(fields)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, &other, "a string")),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.0.remove(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong(name, &other, "`true` or `false`")),
        }
    }

    fn number(&mut self, name: &str, fits: impl Fn(f64) -> bool, rule: &str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        match value.as_f64().filter(|value| fits(*value)) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(name, &value, &format!("a number {rule}"))),
        }
    }

    fn count(&mut self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        match value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0) {
            Some(count) => Ok(Some(count)),
            None => Err(wrong(name, &value, "a whole number, at least `1`")),
        }
    }

    /// Two names for one thing: the older one is that of most clients.
    fn max_new_tokens(&mut self) -> Result<Option<usize>, ApiError> {
        match (self.count("max_tokens")?, self.count("max_completion_tokens")?) {
            (Some(_), Some(_)) => Err(ApiError::bad(
                "max_tokens",
                "max_tokens and max_completion_tokens mean the same; hint: give one of them",
            )),
            (one, other) => Ok(one.or(other)),
        }
    }

    /// Any 64-bit number, as a seed is one.
    fn seed(&mut self) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.0.remove("seed") else { return Ok(None) };
        match value.as_u64().or(value.as_i64().map(i64::cast_unsigned)) {
            Some(seed) => Ok(Some(seed)),
            None => Err(wrong("seed", &value, "a whole number of 64 bits")),
        }
    }

    fn stop(&mut self) -> Result<Vec<String>, ApiError> {
        let rule = "a string, or up to four of them, none empty";
        let stop = match self.0.remove("stop") {
            None => Vec::new(),
            Some(Value::String(text)) => vec![text],
            Some(list) => serde_json::from_value(list.clone()).map_err(|_| wrong("stop", &list, rule))?,
        };
        if stop.len() > STOP_STRINGS || stop.iter().any(String::is_empty) {
            return Err(wrong("stop", &json!(stop), rule));
        }
        Ok(stop)
    }

    fn include_usage(&mut self) -> Result<bool, ApiError> {
        let mut options = match self.0.remove("stream_options") {
            None => return Ok(false),
            Some(Value::Object(options)) => Self::of(options),
            Some(other) => return Err(wrong("stream_options", &other, "an object")),
        };
        if self.0.get("stream") != Some(&Value::Bool(true)) {
            return Err(ApiError::bad("stream_options", "stream_options needs stream to be `true`"));
        }
        let include_usage = options.flag("include_usage")?;
        match options.0.keys().find(|name| *name != "include_obfuscation") {
            None => Ok(include_usage),
            Some(name) => Err(unknown(&format!("stream_options.{name}"))),
        }
    }

    /// Refuses what is left, but for values that ask for what is done anyway.
    fn nothing_else(mut self) -> Result<(), ApiError> {
        let neutral = [
            ("n", json!(1)),
            ("logprobs", json!(false)),
            ("top_logprobs", json!(0)),
            ("presence_penalty", json!(0)),
            ("frequency_penalty", json!(0)),
            ("logit_bias", json!({})),
            ("tools", json!([])),
            ("tool_choice", json!("none")),
            ("functions", json!([])),
            ("function_call", json!("none")),
            ("response_format", json!({ "type": "text" })),
            ("modalities", json!(["text"])),
        ];
        for (name, neutral) in neutral {
            let Some(value) = self.0.remove(name) else { continue };
            let same = value == neutral || (neutral.is_number() && value.as_f64() == neutral.as_f64());
            if !same {
                let message = format!("{name} is `{value}`, only `{neutral}` is supported; hint: leave it out");
                return Err(ApiError::unsupported(name, message));
            }
        }
        self.0.retain(|name, _| !WITHOUT_EFFECT.contains(&name.as_str()));
        self.0.keys().next().map_or(Ok(()), |name| Err(unknown(name)))
    }
}

fn messages(value: Option<Value>) -> Result<Vec<Message>, ApiError> {
    let list = match value {
        None => return Err(ApiError::bad("messages", "messages is missing")),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong("messages", &other, "a list")),
    };
    if list.is_empty() {
        return Err(ApiError::bad("messages", "messages is empty, must have at least one"));
    }
    list.into_iter().enumerate().map(|(index, message)| self::message(index, message)).collect()
}

fn message(index: usize, value: Value) -> Result<Message, ApiError> {
    let place = format!("messages[{index}]");
    let mut fields = match value {
        Value::Object(fields) => Fields::of(fields),
        other => return Err(wrong(&place, &other, "an object")),
    };
    let role = fields.0.remove("role");
    let named = match role.as_ref().and_then(Value::as_str) {
        // What OpenAI calls a system turn since 2024.
        Some("developer") => Some(Role::System),
        Some(name) => Role::parse(name),
        None => None,
    };
    let Some(role) = named else {
        let found = role.unwrap_or_default();
        return Err(wrong(&format!("{place}.role"), &found, "`system`, `developer`, `user` or `assistant`"));
    };
    let content = content(&format!("{place}.content"), fields.0.remove("content"))?;
    // A name has no place in the template; the lists are empty in what clients send back of an answer.
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.0.retain(|name, value| name != "name" && !empty(value));
    match fields.0.keys().next() {
        None => Ok(Message::new(role, content)),
        Some(name) => Err(unknown(&format!("{place}.{name}"))),
    }
}

/// A text, or its parts one after the other.
fn content(place: &str, value: Option<Value>) -> Result<String, ApiError> {
    let rule = "a string, or a list of parts `{\"type\": \"text\", \"text\": …}`";
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text.to_owned()),
                (Some("text") | None, _) => Err(wrong(place, part, rule)),
                (Some(kind), _) => Err(ApiError::unsupported(
                    place,
                    format!("{place} has a part of type `{kind}`, only `text` is supported"),
                )),
            };
            parts.iter().map(text).collect()
        }
        other => Err(wrong(place, &other.unwrap_or_default(), rule)),
    }
}

fn wrong(place: &str, value: &Value, rule: &str) -> ApiError {
    // Long ones are cut: the client has them.
    let shown: String = value.to_string().chars().take(60).collect();
    ApiError::bad(place, format!("{place} is `{shown}`, must be {rule}"))
}

fn unknown(place: &str) -> ApiError {
    ApiError::unsupported(place, format!("{place} is not supported; hint: leave it out"))
}

#[cfg(test)]
mod tests;

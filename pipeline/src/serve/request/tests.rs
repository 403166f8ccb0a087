use super::*;

fn parse(body: Value) -> Result<ChatRequest, ApiError> {
    ChatRequest::parse(body.to_string().as_bytes())
}

/// A request with one user turn, and more.
fn with(more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn what_is_asked_for_is_read() {
    let request = parse(json!({
        "model": "m",
        "messages": [
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "2 +" }, { "type": "text", "text": " 3?" }], "name": "Ann" },
            { "role": "assistant", "content": "5", "refusal": null, "tool_calls": null, "annotations": [] },
            { "role": "user", "content": "" },
        ],
        "max_completion_tokens": 7, "temperature": 1, "top_p": 0.5, "top_k": 9, "seed": -1, "stop": ["a", "b"],
        "stream": true, "stream_options": { "include_usage": true },
    }))
    .unwrap();
    let expected = ChatRequest {
        model: Some("m".to_owned()),
        messages: vec![
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, "2 + 3?"),
            Message::new(Role::Assistant, "5"),
            Message::new(Role::User, ""),
        ],
        max_new_tokens: Some(7),
        seed: Some(u64::MAX),
        temperature: Some(1.0),
        top_p: Some(0.5),
        top_k: Some(9),
        stop: vec!["a".to_owned(), "b".to_owned()],
        stream: true,
        include_usage: true,
    };
    assert_eq!(request, expected);
}

#[test]
fn what_is_not_asked_for_is_the_servers() {
    let request =
        parse(with(json!({ "temperature": null, "stop": "x", "user": "u", "n": 1, "presence_penalty": 0.0 })));
    let request = request.unwrap();
    assert_eq!((request.max_new_tokens, request.stream, &request.stop[..]), (None, false, &["x".to_owned()][..]));
    let defaults = Sampling { temperature: 0.7, top_k: Some(3), top_p: 0.9, seed: 5 };
    assert_eq!(request.sampling(defaults), defaults);
    let asked = parse(with(json!({ "temperature": 0, "seed": 6 }))).unwrap().sampling(defaults);
    assert_eq!(asked, Sampling { temperature: 0.0, seed: 6, ..defaults });
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (json!({ "messages": [] }), "messages", "is empty"),
        (json!({}), "messages", "messages is missing"),
        (json!({ "messages": "hi" }), "messages", "must be a list"),
        (json!({ "messages": ["hi"] }), "messages[0]", "must be an object"),
        (
            json!({ "messages": [{ "role": "robot", "content": "" }] }),
            "messages[0].role",
            "is `\"robot\"`, must be `system`",
        ),
        (json!({ "messages": [{ "content": "" }] }), "messages[0].role", "must be `system`"),
        (json!({ "messages": [{ "role": "user" }] }), "messages[0].content", "must be a string"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            "messages[0].content",
            "`image_url`",
        ),
        (json!({ "messages": [{ "role": "user", "content": ["a"] }] }), "messages[0].content", "must be a string"),
        (
            json!({ "messages": [{ "role": "assistant", "content": "", "tool_calls": [1] }] }),
            "messages[0].tool_calls",
            "not supported",
        ),
        (with(json!({ "temperature": 3 })), "temperature", "from `0` to `2`"),
        (with(json!({ "temperature": "hot" })), "temperature", "is `\"hot\"`"),
        (with(json!({ "top_p": 0 })), "top_p", "over `0`"),
        (with(json!({ "max_tokens": 0 })), "max_tokens", "at least `1`"),
        (with(json!({ "max_tokens": 1.5 })), "max_tokens", "whole number"),
        (with(json!({ "max_tokens": 1, "max_completion_tokens": 1 })), "max_tokens", "give one of them"),
        (with(json!({ "seed": 0.5 })), "seed", "whole number"),
        (with(json!({ "stop": ["a", ""] })), "stop", "none empty"),
        (with(json!({ "stop": ["a", "b", "c", "d", "e"] })), "stop", "up to four"),
        (with(json!({ "stream": "yes" })), "stream", "`true` or `false`"),
        (with(json!({ "stream_options": { "include_usage": true } })), "stream_options", "needs stream"),
        (with(json!({ "stream": true, "stream_options": { "x": 1 } })), "stream_options.x", "not supported"),
        (with(json!({ "n": 2 })), "n", "n is `2`, only `1`"),
        (with(json!({ "logprobs": true })), "logprobs", "only `false`"),
        (with(json!({ "frequency_penalty": 0.1 })), "frequency_penalty", "only `0`"),
        (with(json!({ "tools": [{}] })), "tools", "only `[]`"),
        (with(json!({ "response_format": { "type": "json_object" } })), "response_format", "only "),
        (with(json!({ "best_of": 2 })), "best_of", "best_of is not supported"),
    ];
    for (body, param, fragment) in cases {
        let error = parse(body.clone()).unwrap_err();
        assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{body}");
        assert!(error.message.contains(fragment), "{body}: {}", error.message);
    }
}

#[test]
fn what_is_no_json_is_no_crash() {
    for body in ["", "{", "[]", "\u{feff}{}", "{\"messages\": [", "nul", &"[".repeat(100_000)] {
        let error = ChatRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!((error.status.as_u16(), error.param), (400, None), "{}", error.message);
    }
    assert!(ChatRequest::parse(b"\xff\xfe").is_err());
}

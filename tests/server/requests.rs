//! One client: answers, errors, addresses, signals.

use std::net::TcpListener;

use limbeck_data::{Message, Role, Tokenizer};
use serde_json::json;

use super::{CONTEXT, MODEL, asking, serve, with_model};
use crate::support::server::{Response, first_text, said};

#[test]
fn an_answer_is_the_same_in_one_piece_and_as_a_stream() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &[])?;
    for more in [json!({ "max_tokens": 90 }), json!({ "max_completion_tokens": 90, "temperature": 1.3, "seed": 8 })] {
        let whole = server.chat(&asking("Where is Petra?", more.clone()))?;
        assert_eq!(whole.status, 200, "{whole:?}");
        let whole = whole.json()?;
        let mut streamed = asking("Where is Petra?", more);
        streamed["stream"] = json!(true);
        streamed["stream_options"] = json!({ "include_usage": true });
        let response = server.chat(&streamed)?;
        assert!(response.head.contains("content-type: text/event-stream"), "{response:?}");
        let events = response.events()?;

        let choice = &whole["choices"][0];
        assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("made-up")));
        assert_eq!((&choice["finish_reason"], &choice["message"]["role"]), (&json!("length"), &json!("assistant")));
        assert_eq!(said(&events), choice["message"]["content"].as_str().unwrap_or_default());
        let [first, .., last, usage] = &events[..] else { anyhow::bail!("{events:?}") };
        assert_eq!(
            (&first["object"], &first["choices"][0]["delta"]["role"]),
            (&json!("chat.completion.chunk"), &json!("assistant"))
        );
        assert_eq!(last["choices"][0]["finish_reason"], "length");
        assert!(events[1..events.len() - 2].iter().all(|event| event["choices"][0]["finish_reason"].is_null()));
        assert!(events.iter().all(|event| event["id"] == first["id"]) && first["id"] != whole["id"]);

        // The tokens of the prompt, as the tokenizer has them.
        let tokenizer = Tokenizer::load(sandbox.path(MODEL))?;
        let prompt = tokenizer.encode_prompt(&[Message::new(Role::User, "Where is Petra?")])?.len();
        let expected = json!({ "prompt_tokens": prompt, "completion_tokens": 90, "total_tokens": prompt + 90 });
        assert_eq!((&whole["usage"], &usage["usage"], &usage["choices"]), (&expected, &expected, &json!([])));
    }
    Ok(())
}

#[test]
fn an_answer_ends_before_a_stop_string() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &["--max-new-tokens", "60"])?;
    let content = |body: &serde_json::Value| -> anyhow::Result<(String, String)> {
        let choice = server.chat(body)?.json()?["choices"][0].clone();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Ok((text(&choice["message"]["content"]), text(&choice["finish_reason"])))
    };
    let (whole, reason) = content(&asking("Why?", json!({ "max_tokens": 1000 })))?;
    assert_eq!(reason, "length", "60 tokens are the server's limit");
    // From the middle of a word to that of another.
    let middle = whole.char_indices().nth(whole.chars().count() / 2).map_or(0, |(place, _)| place);
    let stop: String = whole[middle..].chars().take(5).collect();
    let (before, reason) = content(&asking("Why?", json!({ "stop": [stop, "never said"] })))?;
    assert_eq!((before.as_str(), reason.as_str()), (&whole[..whole.find(&stop).unwrap_or(0)], "stop"));
    Ok(())
}

#[test]
fn what_a_request_does_not_say_is_drawn_anew_and_what_it_says_is_not() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &["--temperature", "1", "--max-new-tokens", "20"])?;
    let content =
        |more| Ok::<_, anyhow::Error>(server.chat(&asking("Why?", more))?.json()?["choices"][0]["message"].clone());
    assert_ne!(content(json!({}))?, content(json!({}))?);
    assert_ne!(content(json!({ "seed": 3 }))?, content(json!({ "seed": 4 }))?);
    assert_eq!(content(json!({ "seed": 3 }))?, content(json!({ "seed": 3 }))?);
    assert_eq!(content(json!({ "temperature": 0 }))?, content(json!({ "temperature": 0, "seed": 5 }))?);
    Ok(())
}

#[test]
fn what_is_wrong_is_said_as_openai_says_it() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &[])?;
    let chat = "/v1/chat/completions";
    let long = asking(&"word and ".repeat(CONTEXT), json!({})).to_string();
    let user = |more| asking("hi", more).to_string();
    let cases = [
        ("POST", chat, "{".to_owned(), 400, json!(null), "not JSON"),
        ("POST", chat, json!({ "messages": [] }).to_string(), 400, json!(null), "messages is empty"),
        (
            "POST",
            chat,
            json!({ "messages": [{ "role": "robot", "content": "x" }] }).to_string(),
            400,
            json!(null),
            "`\"robot\"`",
        ),
        ("POST", chat, long, 400, json!("context_length_exceeded"), "maximum context length of `4000`"),
        ("POST", chat, user(json!({ "n": 2 })), 400, json!("unsupported_parameter"), "n is `2`"),
        ("POST", chat, user(json!({ "tools": [1] })), 400, json!("unsupported_parameter"), "tools is `[1]`"),
        ("POST", chat, user(json!({ "model": "gpt" })), 404, json!("model_not_found"), "this server has `made-up`"),
        ("GET", "/v1/models/gpt", String::new(), 404, json!("model_not_found"), "this server has `made-up`"),
        ("POST", "/v1/completions", String::new(), 404, json!("unknown_url"), "there is no `/v1/completions`"),
        ("GET", "/", String::new(), 404, json!("unknown_url"), "POST /v1/chat/completions"),
        ("GET", chat, String::new(), 405, json!("method_not_allowed"), "does not take `GET`"),
        ("DELETE", "/v1/models", String::new(), 405, json!("method_not_allowed"), "does not take `DELETE`"),
        ("POST", chat, " ".repeat((4 << 20) + 1), 413, json!(null), "at most `4194304` bytes"),
    ];
    for (method, path, body, status, code, fragment) in cases {
        let response = server.ask(method, path, &body)?;
        let error = response.json()?["error"].clone();
        assert_eq!((response.status, &error["code"]), (status, &code), "{method} {path}: {response:?}");
        assert!(response.head.contains("content-type: application/json"), "{response:?}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap_or_default().contains(fragment), "{response:?}");
    }
    // After all of it, it answers.
    assert_eq!(server.chat(&asking("hi", json!({ "max_tokens": 1 })))?.status, 200);
    let models = server.ask("GET", "/v1/models", "")?.json()?;
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("made-up")));
    assert_eq!(server.ask("GET", "/v1/models/made-up", "")?.json()?, models["data"][0]);
    Ok(())
}

#[test]
fn addresses_and_options_that_cannot_be_had_are_refused() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let refused = |more: &[&str], fragments: &[&str]| {
        sandbox.run("generate", &[&["--from", MODEL][..], more].concat())?.refused(2, fragments)
    };
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    // The port alone is one of this machine.
    refused(&["--serve", &port], &["--serve is `", "hint: another program has it"])?;
    refused(&["--serve", "nowhere"], &["--serve is `nowhere`", "hint: give HOST:PORT"])?;
    refused(&["--serve", "203.0.113.7:80"], &["--serve is `203.0.113.7:80`", "hint: "])?;
    refused(&["--serve", "--chat"], &["cannot be used with"])?;
    refused(&["--serve", "--parallel", "0"], &["--parallel"])?;
    refused(&["--serve", "127.0.0.1:0", "--max-new-tokens", "0"], &["--max-new-tokens is `0`", "hint: "])
}

#[test]
fn a_signal_ends_it_once_what_is_under_way_is_said() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        let server = serve(&sandbox, &[])?;
        let stream = server.send(
            "POST",
            "/v1/chat/completions",
            &asking("Why?", json!({ "stream": true, "max_tokens": 1200 })).to_string(),
        )?;
        first_text(&stream.try_clone()?)?;
        server.signal(signal)?;
        assert_eq!(server.end()?, Some(status));
        // What `first_text` has not taken with it: the end is there.
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut std::io::BufReader::new(stream), &mut rest)?;
        assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
        assert!(rest.contains("\"finish_reason\":\"length\""));
    }
    // With nothing to do it ends as well.
    let server = serve(&sandbox, &[])?;
    server.signal("TERM")?;
    assert_eq!(server.end()?, Some(143));
    Ok(())
}

#[test]
fn heads_that_are_no_http_are_no_crash() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &[])?;
    for bytes in ["\r\n\r\n", "nonsense\r\n\r\n", "POST /v1/chat/completions HTTP/1.0\r\nContent-Length: -1\r\n\r\n"] {
        let mut stream = std::net::TcpStream::connect(&server.address)?;
        std::io::Write::write_all(&mut stream, bytes.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        // Whatever it says.
        drop(Response::read(stream));
    }
    assert_eq!(server.health("running")?, 0);
    Ok(())
}

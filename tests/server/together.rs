//! Several clients at once.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{CONTEXT, asking, serve, with_model};
use crate::support::server::{Response, Server, first_text};

/// Everything that a request asks for, some of it drawn, some of it longer than others.
fn request(client: u64) -> Value {
    let question = "Where does Petra live? ".repeat(1 + client as usize * 3);
    let temperature = if client.is_multiple_of(3) { 0.0 } else { 1.0 };
    asking(&question, json!({ "seed": client, "temperature": temperature, "max_tokens": 40 + 25 * client }))
}

fn answer(server: &Server, client: u64) -> anyhow::Result<Value> {
    let response = server.chat(&request(client))?;
    ensure!(response.status == 200, "{response:?}");
    let response = response.json()?;
    Ok(json!([response["choices"], response["usage"]]))
}

/// What each of the clients makes of the server, all at once.
fn at_once<T: Send>(clients: u64, of_client: impl Fn(u64) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let of_client = &of_client;
        let threads: Vec<_> = (0..clients).map(|client| scope.spawn(move || of_client(client))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?).collect()
    })
}

#[test]
fn answers_are_the_same_alone_and_in_company() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &[])?;
    let alone: Vec<Value> = (0..11).map(|client| answer(&server, client)).collect::<anyhow::Result<_>>()?;
    let together = at_once(11, |client| answer(&server, client))?;
    assert_eq!(together, alone);
    // Some of these answers are of one word: all of them are different.
    ensure!(alone.iter().enumerate().all(|(i, one)| !alone[i + 1..].contains(one)), "{alone:?}");
    Ok(())
}

#[test]
fn of_eight_clients_the_last_begins_before_the_first_ends() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &[])?;
    let times = at_once(8, |_| {
        // What is likeliest after this goes on and on: a short answer may be over before the last client has asked.
        let body = asking("Client 2?", json!({ "stream": true, "max_tokens": 1000, "temperature": 0 }));
        let stream = server.send("POST", "/v1/chat/completions", &body.to_string())?;
        first_text(&stream.try_clone()?)?;
        let first = Instant::now();
        std::io::copy(&mut &stream, &mut std::io::sink())?;
        Ok((first, Instant::now()))
    })?;
    let last_first = times.iter().map(|(first, _)| *first).max().context("clients")?;
    let first_end = times.iter().map(|(_, end)| *end).min().context("clients")?;
    ensure!(last_first < first_end, "one of them waited until another one had its whole answer");
    Ok(())
}

#[test]
fn the_answer_of_a_client_that_goes_away_ends() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &["--parallel", "1"])?;
    for stream in [true, false] {
        let before = server.health("generated_tokens")?;
        let body = asking("Why?", json!({ "stream": stream })).to_string();
        let connection = server.send("POST", "/v1/chat/completions", &body)?;
        server.wait("generated_tokens", |tokens| tokens > before)?;
        drop(connection);
        server.wait("running", |running| running == 0)?;
        let said = server.health("generated_tokens")? - before;
        ensure!(said < CONTEXT as u64 / 2, "it went on to say {said} tokens");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(server.health("generated_tokens")? - before, said, "and says nothing more");
        // The one place in the batch is free again.
        assert_eq!(server.chat(&asking("hi", json!({ "max_tokens": 1 })))?.status, 200);
    }
    Ok(())
}

#[test]
fn those_that_wait_have_their_turn_and_a_queue_that_is_full_is_said() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let server = serve(&sandbox, &["--parallel", "1"])?;
    let long = asking("Why?", json!({ "stream": true })).to_string();
    let first = server.send("POST", "/v1/chat/completions", &long)?;
    server.wait("running", |running| running == 1)?;
    let short = asking("hi", json!({ "max_tokens": 1 })).to_string();
    let waiting: Vec<_> =
        (0..64).map(|_| server.send("POST", "/v1/chat/completions", &short)).collect::<anyhow::Result<_>>()?;
    server.wait("waiting", |waiting| waiting == 64)?;
    let refused = server.ask("POST", "/v1/chat/completions", &short)?;
    assert_eq!((refused.status, refused.json()?["error"]["code"].clone()), (503, json!("server_overloaded")));
    ensure!(refused.head.contains("retry-after: 1"), "{refused:?}");
    // Those that go away while they wait are passed over.
    drop(first);
    for connection in waiting {
        assert_eq!(Response::read(connection)?.status, 200);
    }
    Ok(())
}

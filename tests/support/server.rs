//! `generate --serve`, and HTTP spoken to it by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::support::interruption::send;

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that ends with its value.
pub(crate) struct Server {
    child: Child,
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// What it calls its model.
    pub(crate) model: String,
}

/// What it said.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    /// Of `command`, which has all arguments but `--serve`, once it listens.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.args(["--serve", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (mut server, mut said) = (Self { child, address: String::new(), model: String::new() }, String::new());
        let mut lines = BufReader::new(stderr).lines();
        for line in &mut lines {
            let line = line?;
            if let Some((model, rest)) = line.strip_prefix("serving `").and_then(|rest| rest.split_once("` at http://"))
            {
                server.model = model.to_owned();
                server.address = rest.split('/').next().unwrap_or_default().to_owned();
                // Read to its end, so that it never waits for a reader.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(server);
            }
            said += &line;
        }
        bail!("it does not serve: {said}")
    }

    /// A request that has been sent, of HTTP 1.0: the answer comes in one piece and ends with the connection.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n{body}", self.address)?;
        Ok(stream)
    }

    /// A request and its answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Response> {
        Response::read(self.send(method, path, body)?)
    }

    /// A chat completion.
    pub(crate) fn chat(&self, body: &Value) -> anyhow::Result<Response> {
        self.ask("POST", "/v1/chat/completions", &body.to_string())
    }

    /// A count of `/health`.
    pub(crate) fn health(&self, count: &str) -> anyhow::Result<u64> {
        self.ask("GET", "/health", "")?.json()?[count].as_u64().with_context(|| count.to_owned())
    }

    /// Waits until a count of `/health` is as it should be.
    pub(crate) fn wait(&self, count: &str, is_it: impl Fn(u64) -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        while !is_it(self.health(count)?) {
            ensure!(started.elapsed() < PATIENCE, "{count} is {}", self.health(count)?);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, signal: &str) -> anyhow::Result<()> {
        send(&self.child, signal)
    }

    /// Its exit status.
    pub(crate) fn end(mut self) -> anyhow::Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended is not there any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Response {
    /// To the end of the connection.
    pub(crate) fn read(mut stream: TcpStream) -> anyhow::Result<Self> {
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text:?}"))?;
        let status = head.split(' ').nth(1).context("status")?.parse()?;
        Ok(Self { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    /// Its body.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("{self:?}"))
    }

    /// The events of a stream: all but the last, which says that it is done.
    pub(crate) fn events(&self) -> anyhow::Result<Vec<Value>> {
        let events: Vec<&str> = self.body.split("\n\n").filter(|event| !event.is_empty()).collect();
        let (last, events) = events.split_last().context("no events")?;
        ensure!(*last == "data: [DONE]", "it ends with {last}");
        events.iter().map(|event| Ok(serde_json::from_str(event.strip_prefix("data: ").context("data")?)?)).collect()
    }
}

/// What a stream's events say together.
pub(crate) fn said(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

/// Reads a stream up to its first text.
pub(crate) fn first_text(stream: &TcpStream) -> anyhow::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let is_text = |line: &String| line.contains("\"content\":\"") && !line.contains("\"content\":\"\"");
    let found = lines.find(|line| line.as_ref().map_or(true, is_text)).context("it ended without a text")?;
    found?;
    Ok(())
}

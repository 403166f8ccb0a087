//! HTTP 1.1, one request a connection: read from a socket, written to it. The head is parsed by the `httparse` crate.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::error::ApiError;

/// Bytes of a head at most.
const HEAD_BYTES: usize = 16 << 10;
/// Lines of a head at most.
const HEADERS: usize = 64;
/// Bytes of a body at most.
pub(super) const BODY_BYTES: usize = 4 << 20;
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How long, and for how many bytes, a client is listened to that was answered before it had said everything: closed at once,
/// the connection would be reset, and the answer lost.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * BODY_BYTES;

/// What a client asks.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without what follows a question mark.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

/// What the head says of the body.
struct Head {
    method: String,
    path: String,
    length: usize,
    expects_continue: bool,
}

/// The request that comes in by `stream`. `None` where the connection ends before it.
///
/// # Errors
/// One that is no HTTP, too large or too slow.
pub(super) fn read(stream: &mut TcpStream) -> Result<Option<Request>, ApiError> {
    let mut arriving = Arriving { stream, end: Instant::now() + ARRIVAL };
    let mut bytes = Vec::new();
    let (head, start) = loop {
        if let Some(head) = parse(&bytes)? {
            break head;
        }
        if bytes.len() > HEAD_BYTES {
            return Err(ApiError::new(431, None, format!("the head is over `{HEAD_BYTES}` bytes")));
        }
        if arriving.read(&mut bytes)? == 0 {
            return Ok(None);
        }
    };
    if head.length > BODY_BYTES {
        let message = format!("the body has `{}` bytes, must have at most `{BODY_BYTES}`", head.length);
        return Err(ApiError::new(413, None, message));
    }
    let mut body = bytes.split_off(start);
    if head.expects_continue && body.len() < head.length {
        // Whether it arrives shows in what follows.
        let _ = arriving.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    while body.len() < head.length {
        if arriving.read(&mut body)? == 0 {
            return Ok(None);
        }
    }
    body.truncate(head.length);
    Ok(Some(Request { method: head.method, path: head.path, body }))
}

/// The head and where the body begins; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, ApiError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let bad = |message: String| ApiError::new(400, None, message);
    let parsed = request.parse(bytes).map_err(|error| bad(format!("the request is not HTTP: {error}")))?;
    let httparse::Status::Complete(start) = parsed else { return Ok(None) };
    let (mut length, mut expects_continue) = (0, false);
    for header in request.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let parsed = value.trim().parse();
                length = parsed.map_err(|_| bad(format!("content-length is `{value}`, must be a number of bytes")))?;
            }
            "transfer-encoding" => {
                return Err(ApiError::new(411, None, "the body has no length; hint: send content-length"));
            }
            "expect" => expects_continue = value.trim().eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path).to_owned();
    Ok(Some((Head { method: request.method.unwrap_or_default().to_owned(), path, length, expects_continue }, start)))
}

/// A connection whose request must be there in time.
struct Arriving<'a> {
    stream: &'a mut TcpStream,
    end: Instant,
}

impl Arriving<'_> {
    /// Adds what has come to `bytes`; 0 at the end of the connection.
    fn read(&mut self, bytes: &mut Vec<u8>) -> Result<usize, ApiError> {
        let late = || ApiError::new(408, None, format!("the request was not there in `{}` seconds", ARRIVAL.as_secs()));
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        let mut buffer = [0; 16 << 10];
        match self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut buffer)) {
            Ok(read) => {
                bytes.extend(&buffer[..read]);
                Ok(read)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(late()),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.read(bytes),
            // There is nobody to tell.
            Err(_) => Ok(0),
        }
    }
}

/// The head of an answer; its body ends with the connection, unless it has a length.
///
/// # Errors
/// If the client is gone.
pub(super) fn write_head(
    stream: &mut TcpStream,
    status: u16,
    content_type: &str,
    length: Option<usize>,
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\n", reason(status));
    head += "Cache-Control: no-cache\r\nConnection: close\r\n";
    if status == 503 {
        head += "Retry-After: 1\r\n";
    }
    if let Some(length) = length {
        head += &format!("Content-Length: {length}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes())
}

/// A whole answer.
///
/// # Errors
/// If the client is gone.
pub(super) fn write(stream: &mut TcpStream, status: u16, json: &str) -> io::Result<()> {
    write_head(stream, status, "application/json", Some(json.len()))?;
    stream.write_all(json.as_bytes())
}

/// Hears a client out that was answered before it had said everything, up to a limit.
pub(super) fn linger(stream: &mut TcpStream) {
    let end = Instant::now() + LINGER;
    let (mut buffer, mut heard) = ([0; 16 << 10], 0);
    let listening = stream.shutdown(Shutdown::Write).and_then(|()| stream.set_read_timeout(Some(LINGER)));
    while listening.is_ok() && heard < LINGER_BYTES && Instant::now() < end {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => heard += read,
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Payload Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

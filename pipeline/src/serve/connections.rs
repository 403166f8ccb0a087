//! Threads that speak HTTP: one accepts connections, each of which has one that answers and one that notices when the client
//! goes away. They wait more than they work, and none of them computes.

use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use super::error::ApiError;
use super::shared::Shared;
use super::{http, routes};

/// Connections at once at most.
const CONNECTIONS: usize = 256;

/// How long a client may let a piece of its answer wait.
const TAKING: Duration = Duration::from_secs(30);

/// How long what was said last may take to get out.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often that is looked at, and how long nothing is accepted after the system refused a connection.
const POLL: Duration = Duration::from_millis(10);

/// The connections that are open.
pub(super) struct Connections(Arc<AtomicUsize>);

/// One of them, for as long as it is.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Connections {
    /// Accepts from now on until the process ends.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn accept(listener: TcpListener, shared: Arc<Shared>) -> io::Result<Self> {
        let open = Arc::new(AtomicUsize::new(0));
        let connections = Self(Arc::clone(&open));
        Builder::new().name("accept".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                // Out of files, or a client that has gone: others may come.
                let Ok(stream) = stream else {
                    sleep(POLL);
                    continue;
                };
                open.fetch_add(1, Ordering::AcqRel);
                let guard = Open(Arc::clone(&open));
                let shared = Arc::clone(&shared);
                let many = open.load(Ordering::Acquire) > CONNECTIONS;
                // Without a thread it is closed.
                let _ = Builder::new().name("connection".to_owned()).spawn(move || {
                    let _open = guard;
                    if many { refuse(stream) } else { answer(stream, &shared) }
                });
            }
        })?;
        Ok(connections)
    }

    /// Waits until they are closed, for a while.
    pub(super) fn finish(&self) {
        let end = Instant::now() + LAST_WORDS;
        while self.0.load(Ordering::Acquire) > 0 && Instant::now() < end {
            sleep(POLL);
        }
    }
}

fn refuse(mut stream: TcpStream) {
    let message = format!("`{CONNECTIONS}` connections are open already; hint: try again later");
    let error = ApiError::new(503, Some("server_overloaded"), message);
    // To one that has gone nothing is said.
    let _ = http::write(&mut stream, error.status, &error.body().to_string());
}

/// A request and its answer. Nothing that fails here is anybody's business but the client's, who is gone then.
fn answer(mut stream: TcpStream, shared: &Arc<Shared>) {
    // Tokens are small, and each is to be seen at once.
    let _ = stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(TAKING)));
    let request = match http::read(&mut stream) {
        Ok(Some(request)) => request,
        Ok(None) => return,
        Err(error) => {
            let _ = http::write(&mut stream, error.status, &error.body().to_string());
            return http::linger(&mut stream);
        }
    };
    let gone = Arc::new(AtomicBool::new(false));
    if watch(&stream, &gone).is_ok() {
        let _ = routes::answer(&mut stream, &request, shared, &gone);
    }
    // The one who watches is waiting for it.
    let _ = stream.shutdown(Shutdown::Both);
}

/// Sets `gone` once the connection ends. Whatever else the client says is not listened to.
fn watch(stream: &TcpStream, gone: &Arc<AtomicBool>) -> io::Result<()> {
    let (mut stream, gone) = (stream.try_clone()?, Arc::clone(gone));
    stream.set_read_timeout(None)?;
    Builder::new().name("watch".to_owned()).spawn(move || {
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(read) if read > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return gone.store(true, Ordering::Relaxed),
            }
        }
    })?;
    Ok(())
}

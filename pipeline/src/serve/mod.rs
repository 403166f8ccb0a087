//! `generate --serve`: a model behind OpenAI's chat completions API.
//!
//! ```text
//! client ──▶ routes ──▶ request ──▶ Shared::ask ──▶ queue ──▶ engine: one batch, which answers join and leave
//!        ◀── response ◀──────────── events of the answer ◀──────┘
//! ```
//!
//! The engine computes, on the thread that calls [`run`]; everything else is tokio's.

mod engine;
mod error;
mod request;
mod response;
mod routes;
mod shared;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use limbeck_data::{Message, Role};
use limbeck_model::Sampling;
use limbeck_train::say;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use self::engine::Engine;
use self::shared::Shared;
use crate::failure::{Completion, Failure};
use crate::interrupt::Interrupt;
use crate::source::Source;

/// Threads that speak HTTP: they wait more than they work.
const HTTP_THREADS: usize = 2;

/// How long what was said last may take to get out.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How requests are answered.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Answers at once at most.
    pub parallel: usize,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Where a request does not say; its seed is for requests without one.
    pub sampling: Sampling,
}

/// Takes `address`: `HOST:PORT`, or `PORT` of this machine alone.
///
/// # Errors
/// If it is no address, or somebody else's.
pub fn listen(address: &str) -> Result<TcpListener, Failure> {
    let whole = if address.parse::<u16>().is_ok() { format!("127.0.0.1:{address}") } else { address.to_owned() };
    let wrong =
        |error: std::io::Error, hint: &str| Failure::usage(anyhow!("--serve is `{address}`: {error}; hint: {hint}"));
    let form = "give HOST:PORT, such as `127.0.0.1:8080`";
    let addresses: Vec<SocketAddr> = whole.to_socket_addrs().map_err(|error| wrong(error, form))?.collect();
    TcpListener::bind(&addresses[..]).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program has it; give another port, or 0 for any that is free",
            std::io::ErrorKind::PermissionDenied => "ports below 1024 are the system's; give another one",
            std::io::ErrorKind::AddrNotAvailable => "give an address of this machine, such as `127.0.0.1`",
            _ => form,
        };
        wrong(error, hint)
    })
}

/// Answers requests until a signal comes.
///
/// # Errors
/// If the model has no chat template, or the system refuses threads.
pub fn run(listener: TcpListener, source: Source, settings: &ServeSettings) -> Result<Completion, Failure> {
    let interrupt = Interrupt::listen()?;
    source.tokenizer.encode_prompt(&[Message::new(Role::User, "")]).map_err(Failure::usage)?;
    let address = listener.local_addr().context("--serve").map_err(Failure::usage)?;
    let mut engine = Engine::new(&source.model, settings.parallel);
    let (shared, jobs) = Shared::new(source, settings);
    let shared = Arc::new(shared);
    let server = Server::start(listener, Arc::clone(&shared)).map_err(Failure::run)?;
    say!(
        "serving `{}` at http://{address}/v1, {} answers at once, contexts of {} tokens; Ctrl-C ends it",
        shared.name,
        settings.parallel,
        shared.context
    );
    let signal = engine.run(&shared, jobs, &|| interrupt.signal());
    server.stop();
    Ok(Completion::Stopped { signal })
}

/// The HTTP side, on threads of its own.
struct Server {
    runtime: Runtime,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl Server {
    fn start(listener: TcpListener, shared: Arc<Shared>) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_multi_thread().worker_threads(HTTP_THREADS).enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let serving = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let stopped = async { drop(stopped.await) };
            axum::serve(listener, routes::router(shared)).with_graceful_shutdown(stopped).await
        });
        Ok(Self { runtime, serving, stop })
    }

    /// Lets what was said get out.
    fn stop(self) {
        let Self { runtime, serving, stop } = self;
        // Nobody is told where the server has gone already, and one that does not end in time is ended.
        let _ = stop.send(());
        let _ = runtime.block_on(async { tokio::time::timeout(LAST_WORDS, serving).await });
        runtime.shutdown_background();
    }
}

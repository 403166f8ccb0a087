//! Ctrl-C and SIGTERM finish the step and save; a second one ends the process at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// The signals of this process.
#[derive(Clone, Debug)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
    /// Whether the next signal ends the process at once.
    second: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from the first call on; every call gives the same listener.
    ///
    /// # Errors
    /// If the system refuses a signal handler.
    pub fn listen() -> Result<&'static Self, Failure> {
        static LISTENER: OnceLock<Interrupt> = OnceLock::new();
        match LISTENER.get() {
            Some(listener) => Ok(listener),
            None => {
                let listener = Self::register().map_err(Failure::run)?;
                Ok(LISTENER.get_or_init(|| listener))
            }
        }
    }

    fn register() -> std::io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let second = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // Registered first, so that it sees `second` as the signal before left it.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&second))?;
            flag::register(number, Arc::clone(&second))?;
            flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Self { signal, second })
    }

    /// Forgets what arrived; the next signal ends the process at once, or is one to be looked at.
    pub fn end_at_next_signal(&self, at_once: bool) {
        self.signal.store(0, Ordering::Relaxed);
        self.second.store(at_once, Ordering::Relaxed);
    }

    /// The number of the signal that arrived.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number as i32),
        }
    }
}

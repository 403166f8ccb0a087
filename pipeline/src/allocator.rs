//! The allocator of every binary.
//!
//! A training step frees and allocates the same large buffers over and over. The system's allocator gives them back to the
//! kernel, which clears each page anew: a quarter of a step's time. mimalloc keeps them when told to.

use std::ffi::c_long;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Freed memory stays with the process. Call it first in `main`.
pub fn keep_freed_pages() {
    const NEVER: c_long = -1;
    // SAFETY: sets an integer option of the allocator, which is thread-safe and takes any value.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, NEVER) };
}

//! An interrupted run equals the uninterrupted one, bit for bit, however it was interrupted.

/// What is complete, what has not begun, and the optimizer's state as a negative control.
mod edges;
/// SIGKILL, in a step and in a save.
mod killed;
/// `prepare` and `export-model`, which have no steps.
mod rerun;
/// Ctrl-C and SIGTERM.
mod signals;
/// The stages that train, and what makes two of their runs equal.
mod stages;

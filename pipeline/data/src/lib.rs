//! Documents and conversations, from files to batches of token rows.

mod batch;
mod message;

pub use batch::{Batch, SegmentSpan};
pub use message::{Message, Role};

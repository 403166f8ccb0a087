//! Documents and conversations, from files to batches of token rows.

mod batch;
mod error;
mod message;
pub mod source;
mod template;
mod tokenizer;
pub mod world;

pub use batch::{Batch, SegmentSpan};
pub use error::DataError;
pub use message::{Message, Role};
pub use tokenizer::{Tokenizer, TokenizerDifference};

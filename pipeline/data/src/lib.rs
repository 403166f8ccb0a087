//! Documents and conversations, from files to batches of token rows.
//!
//! ```text
//! DataEntry ─▶ source ─────▶ tokenizer ───▶ shard ──────────▶ segment ─▶ packing ─▶ Mixture ─▶ Batch
//!  files        Records       (template)     memory-mapped,    cut at     rows       order as a pure function
//!               row by row    ids, targets   content-addressed multiples             of (seed, row number)
//! ```
//!
//! * [`source`] reads parquet, JSONL and text files, and says what is wrong with them by file and row.
//! * [`Tokenizer`] trains, loads and saves a byte-level BPE with its chat template, and encodes both kinds of data.
//! * [`Mixture`] holds tokenised, packed entries; [`Mixture::batch`] needs no state but the number of rows seen.
//! * [`Batch`] is what the model and the loss read; its positions are the document mask.
//! * [`world`] is the corpus that needs no download.
//!
//! ```
//! use limbeck_config::{DataEntry, DataKind};
//! use limbeck_data::{Mixture, Tokenizer, source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let path = directory.path().join("stories.txt");
//! std::fs::write(&path, "a cat sat on a mat, a cat sat on a hat")?;
//! let path = path.display().to_string();
//! let entry = DataEntry {
//!     path,
//!     kind: DataKind::Documents,
//!     column: None,
//!     prompt_column: None,
//!     completion_column: None,
//!     weight: 1.0,
//! };
//! let tokenizer = Tokenizer::train(source::texts(std::slice::from_ref(&entry))?, 264)?;
//! let mixture = Mixture::open(&[entry], &tokenizer, 8, 17, &directory.path().join("cache"), &|_| {})?;
//!
//! let batch = mixture.batch(0, 3);
//! assert_eq!((batch.rows, batch.inputs.len()), (3, 3 * 8));
//! assert_eq!(batch, mixture.batch(0, 3));
//! # Ok(())
//! # }
//! ```

pub mod answers;
mod batch;
mod error;
mod message;
mod mixture;
mod packing;
mod segment;
mod shard;
pub mod source;
mod template;
mod tokenizer;
pub mod world;

pub use batch::{Batch, SegmentSpan};
pub use error::DataError;
pub use message::{Message, Role};
pub use mixture::{EntryEvaluation, EntryReport, Mixture, Prompt, Rollout};
pub use shard::{Progress, ProgressState, token_counts};
pub use tokenizer::{TextStream, Tokenizer, TokenizerDifference, TokenizerFiles};

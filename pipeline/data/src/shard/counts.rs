//! How often data uses each token.

use limbeck_config::DataEntry;
use rayon::prelude::*;

use super::build::{encode, next_chunk};
use crate::error::DataError;
use crate::source::{Records, data_files};
use crate::tokenizer::Tokenizer;

/// How often each id of `tokenizer` stands in the entries as a training reads them, begin and end tokens and what chat
/// templates add included.
///
/// # Errors
/// Whatever is wrong with a file; chats without a chat template.
pub fn token_counts(entries: &[DataEntry], tokenizer: &Tokenizer) -> Result<Vec<u64>, DataError> {
    let mut counts = vec![0; tokenizer.vocab_size()];
    for entry in entries {
        for file in data_files(entry)? {
            let mut records = Records::open(&file, entry)?;
            loop {
                let chunk = next_chunk(&mut records)?;
                if chunk.is_empty() {
                    break;
                }
                let encoded: Vec<_> =
                    chunk.into_par_iter().map(|record| encode(record, tokenizer)).collect::<Result<_, _>>()?;
                encoded.iter().flat_map(|document| &document.ids).for_each(|id| counts[*id as usize] += 1);
            }
        }
    }
    Ok(counts)
}

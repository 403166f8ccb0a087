//! Whether a cache is the one that is asked for.

use std::path::Path;

use limbeck_config::{Divergence, LogitsCodec};

use crate::error::LogitsError;
use crate::header::CacheHeader;

/// What a training needs of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Hash of the tokenised segments in their order.
    pub data: String,
    /// Hash of the map from tokens to ids.
    pub tokenizer: String,
    /// Hash of the teacher's weights, where the teacher is at hand.
    pub teacher: Option<String>,
    /// Where documents are cut.
    pub sequence_length: u64,
}

/// A key of `cache.json` with what stands there, what is asked for, and what to say where the two differ.
type Comparison = (&'static str, String, String, &'static str, &'static str);

const OTHER_DATA: &str = "capture again for this data, or train on the data that it was captured from";
const OTHER_CAPTURE: &str = "give the values that it was begun with, or capture into another directory";

/// Refuses a cache that was made from something else. What decides the other hashes comes first.
pub(crate) fn check_expected(path: &Path, header: &CacheHeader, expected: &Expected) -> Result<(), LogitsError> {
    let identity = &header.identity;
    let teacher = expected.teacher.as_ref().unwrap_or(&identity.teacher);
    refuse_first(path, identity_comparisons(header, expected, teacher))
}

fn identity_comparisons(header: &CacheHeader, expected: &Expected, teacher: &str) -> Vec<Comparison> {
    let identity = &header.identity;
    let other_length = "set data.sequence_length to the cache's, or capture again";
    let other_tokenizer = "a teacher's logits are over its own ids: use the tokenizer that it was captured with";
    let other_teacher = "capture again with this teacher, or name the one that it was captured from";
    vec![
        (
            "identity.sequence_length",
            identity.sequence_length.to_string(),
            expected.sequence_length.to_string(),
            "rows of another length",
            other_length,
        ),
        (
            "identity.tokenizer",
            identity.tokenizer.clone(),
            expected.tokenizer.clone(),
            "another tokenizer",
            other_tokenizer,
        ),
        (
            "identity.data",
            identity.data.clone(),
            expected.data.clone(),
            "other data, or data in another order",
            OTHER_DATA,
        ),
        ("identity.teacher", identity.teacher.clone(), teacher.to_owned(), "another teacher", other_teacher),
    ]
}

/// Refuses to go on with a capture that was begun as another one.
pub(crate) fn check_same(path: &Path, found: &CacheHeader, asked: &CacheHeader) -> Result<(), LogitsError> {
    let expected = Expected {
        data: asked.identity.data.clone(),
        tokenizer: asked.identity.tokenizer.clone(),
        teacher: Some(asked.identity.teacher.clone()),
        sequence_length: asked.identity.sequence_length,
    };
    let mut comparisons = identity_comparisons(found, &expected, &asked.identity.teacher);
    let mut add = |what, found: &dyn std::fmt::Debug, asked: &dyn std::fmt::Debug| {
        comparisons.push((what, format!("{found:?}"), format!("{asked:?}"), "another capture", OTHER_CAPTURE));
    };
    add("identity.vocab_size", &found.identity.vocab_size, &asked.identity.vocab_size);
    add("codec", &found.codec, &asked.codec);
    add("temperature", &found.temperature, &asked.temperature);
    add("seed", &found.seed, &asked.seed);
    add("precision", &found.precision, &asked.precision);
    add("extent", &found.extent, &asked.extent);
    refuse_first(path, comparisons)
}

fn refuse_first(path: &Path, comparisons: Vec<Comparison>) -> Result<(), LogitsError> {
    match comparisons.into_iter().find(|(_, found, expected, ..)| found != expected) {
        None => Ok(()),
        Some((what, found, expected, of, hint)) => {
            Err(LogitsError::Mismatch { path: path.to_owned(), what, found, expected, of, hint })
        }
    }
}

/// Refuses a loss that the codec cannot give at this temperature.
pub(crate) fn check_pairing(
    path: &Path,
    header: &CacheHeader,
    divergence: Divergence,
    temperature: f64,
) -> Result<(), LogitsError> {
    let refuse =
        |codec, reason: String, hint: String| Err(LogitsError::Pairing { path: path.to_owned(), codec, reason, hint });
    let captured = header.temperature;
    let other_temperature = format!("at temperature `{captured}`, and has nothing about temperature `{temperature}`");
    let temperature_hint = format!("set distill.temperature to `{captured}`, capture again, or capture with `full`");
    match header.codec {
        LogitsCodec::Full {} => Ok(()),
        LogitsCodec::RandomSampling { .. } if !matches!(divergence, Divergence::ForwardKl {}) => refuse(
            "random_sampling",
            "whose draws are unbiased for forward KL alone: the other divergences are not linear in the teacher's \
             probabilities"
                .to_owned(),
            "use distill.divergence.kind = `forward_kl`, or capture with `top_k` or `full`".to_owned(),
        ),
        LogitsCodec::RandomSampling { .. } if captured != temperature => {
            refuse("random_sampling", other_temperature, temperature_hint)
        }
        LogitsCodec::TopK { .. } if captured != temperature => refuse("top_k", other_temperature, temperature_hint),
        LogitsCodec::RandomSampling { .. } | LogitsCodec::TopK { .. } => Ok(()),
    }
}

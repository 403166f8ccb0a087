//! The config of `export-model`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{DataEntry, cache, check_entries};
use crate::load::StageConfig;
use crate::problem::Problem;
use crate::rules;
use crate::run::RunSection;
use crate::weights::check_directory;

/// A file format that `export-model` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// A directory that transformers opens.
    HuggingFace,
    /// GGUF with 32-bit floats.
    GgufF32,
    /// GGUF with 16-bit floats.
    GgufF16,
    /// GGUF with 8-bit blocks.
    GgufQ8_0,
    /// GGUF with 6-bit blocks.
    GgufQ6K,
    /// GGUF with llama.cpp's mix of 5-bit and 6-bit blocks.
    GgufQ5KM,
    /// GGUF with llama.cpp's mix of 4-bit and 6-bit blocks.
    GgufQ4KM,
    /// GGUF with 4-bit blocks, the output weights with 6 bits.
    GgufQ4_0,
    /// A directory for MLX, with 8-bit codes in groups of 64.
    MlxQ8,
    /// A directory for MLX, with 4-bit codes in groups of 64.
    MlxQ4,
}

/// `[export]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExportSection {
    /// A step directory, a run directory (its newest valid step), a Hugging Face directory, or a GGUF file.
    pub from: PathBuf,
    /// What is written.
    pub formats: Vec<ExportFormat>,
    /// What the columns of the matrices matter, for the formats that can use it; default: all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceSection>,
    /// Licence of the weights in the words of the Hugging Face Hub, for the model card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

/// `[export.importance]`: calibration data, over which the mean square of every matrix' input is taken.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportanceSection {
    /// Texts and chats, in the shares of their weights.
    pub data: Vec<DataEntry>,
    /// How much of them, in tokens, padding included, rounded up to whole rows.
    #[serde(default = "calibration_tokens")]
    pub calibration_tokens: usize,
    /// Tokens in a row; default: 512, or the model's longest sequence if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_length: Option<usize>,
    /// Directory of the tokenised shards.
    #[serde(default = "cache")]
    pub cache: PathBuf,
}

fn calibration_tokens() -> usize {
    65_536
}

impl ImportanceSection {
    fn check(&self, problems: &mut Vec<Problem>) {
        let key = "export.importance";
        if self.data.is_empty() {
            problems.push(
                Problem::missing(format!("{key}.data"), "must have at least one entry")
                    .hint(format!("add [[{key}.data]] with a `path`, or leave [{key}] out")),
            );
        }
        check_entries(&format!("{key}.data"), &self.data, problems);
        rules::at_least(problems, &format!("{key}.calibration_tokens"), self.calibration_tokens as u64, 1);
        if let Some(length) = self.sequence_length {
            rules::at_least(problems, &format!("{key}.sequence_length"), length as u64, 2);
        }
        rules::not_empty(problems, &format!("{key}.cache"), &self.cache.to_string_lossy(), "data/cache");
    }
}

/// `[data]` of `export-model`: on what the loss of each format is measured.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExportDataSection {
    /// Tokens of a segment; default: the model's longest sequence, at most 2,048.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_length: Option<usize>,
    /// Directory of the tokenised shards.
    #[serde(default = "cache")]
    pub cache: PathBuf,
    /// What is held out; without it nothing is measured.
    #[serde(default)]
    pub valid: Vec<DataEntry>,
}

/// `export-model`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// Name and seed.
    pub run: RunSection,
    /// What is exported.
    pub export: ExportSection,
    /// Held-out data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ExportDataSection>,
}

impl ExportFormat {
    /// Whether its blocks can be of the least error weighted with an importance: llama.cpp's quantizer ignores one for the others.
    pub fn uses_importance(self) -> bool {
        match self {
            Self::HuggingFace | Self::MlxQ8 | Self::MlxQ4 | Self::GgufF32 | Self::GgufF16 | Self::GgufQ8_0 => false,
            Self::GgufQ6K | Self::GgufQ5KM | Self::GgufQ4KM | Self::GgufQ4_0 => true,
        }
    }

    /// The word in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::HuggingFace => "hugging_face",
            Self::GgufF32 => "gguf_f32",
            Self::GgufF16 => "gguf_f16",
            Self::GgufQ8_0 => "gguf_q8_0",
            Self::GgufQ6K => "gguf_q6_k",
            Self::GgufQ5KM => "gguf_q5_k_m",
            Self::GgufQ4KM => "gguf_q4_k_m",
            Self::GgufQ4_0 => "gguf_q4_0",
            Self::MlxQ8 => "mlx_q8",
            Self::MlxQ4 => "mlx_q4",
        }
    }
}

impl StageConfig for ExportConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.run.check(&mut problems);
        check_directory("export.from", &self.export.from, &mut problems);
        if let Some(importance) = &self.export.importance {
            importance.check(&mut problems);
        }
        let formats = &self.export.formats;
        if formats.is_empty() {
            problems.push(
                Problem::new("export.formats", "[]", "must not be empty")
                    .hint("a first choice is `[\"hugging_face\"]`"),
            );
        }
        for (index, format) in formats.iter().enumerate() {
            if let Some(first) = formats[..index].iter().position(|other| other == format) {
                let rule = format!("must not repeat export.formats.{first}");
                let key = format!("export.formats.{index}");
                problems.push(Problem::new(key, format.name(), rule).hint("name each format once"));
            }
        }
        if let Some(license) = &self.export.license {
            check_license(license, &mut problems);
        }
        if let Some(data) = &self.data {
            data.check(&mut problems);
        }
        problems
    }
}

/// A word that stands in the front matter of the model card as it is.
fn check_license(license: &str, problems: &mut Vec<Problem>) {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    if license.is_empty() || !license.chars().all(is_word) {
        let rule = "must be one word of letters, digits, `-`, `.` and `_`";
        problems.push(Problem::new("export.license", license, rule).hint("such as `apache-2.0`, `mit` or `other`"));
    }
}

impl ExportDataSection {
    fn check(&self, problems: &mut Vec<Problem>) {
        if let Some(length) = self.sequence_length {
            rules::at_least(problems, "data.sequence_length", length as u64, 2);
        }
        rules::not_empty(problems, "data.cache", &self.cache.to_string_lossy(), "data/cache");
        check_entries("data.valid", &self.valid, problems);
    }
}

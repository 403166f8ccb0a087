//! The config of `export-model`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::load::StageConfig;
use crate::problem::Problem;
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
}

/// `export-model`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// Name and seed.
    pub run: RunSection,
    /// What is exported.
    pub export: ExportSection,
}

impl ExportFormat {
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
        problems
    }
}

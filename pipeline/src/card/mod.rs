//! The model card of an export: lineage, scores, what each format loses, where it runs and how.
//!
//! ```text
//! ExportRecord (sizes, losses) ─┐
//! ModelConfig ── fit ───────────┼─▶ Card ── summary ──▶ stderr
//! Budget, devices ──────────────┘     └──── readme ───▶ README.md, hugging-face/README.md
//! manifests on disk ── lineage ───────────────┤
//! tokenizer ── ollama ──▶ Modelfile ──────────┘
//! ```

mod lineage;
mod ollama;
mod readme;
mod tables;

use std::path::Path;

use anyhow::Context;
use limbeck_checkpoint::write_atomically;
use limbeck_config::{ExportConfig, ExportFormat, ModelConfig};

use crate::export_model::{ExportRecord, ExportedFile};
use crate::fit::{Budget, Device, Footprint};
use crate::source::Source;

pub(crate) use tables::{bytes, digits};

/// The model card's file.
pub const README: &str = "README.md";

/// What Ollama makes a model from.
pub const MODELFILE: &str = "Modelfile";

/// An export with what it takes on devices.
pub struct Card<'a> {
    config: &'a ExportConfig,
    shape: &'a ModelConfig,
    record: &'a ExportRecord,
    budget: &'a Budget,
    devices: Vec<&'a Device>,
    context: usize,
    rows: Vec<Row<'a>>,
}

/// A format.
struct Row<'a> {
    format: ExportFormat,
    file: &'a ExportedFile,
    footprint: Footprint,
}

impl<'a> Card<'a> {
    /// Of the formats of `config` that `record` has. With a device in the budget, of that one alone.
    pub fn new(
        config: &'a ExportConfig,
        shape: &'a ModelConfig,
        record: &'a ExportRecord,
        budget: &'a Budget,
        devices: &'a [Device],
    ) -> Self {
        let context = budget.context_for(shape);
        let row = |format: &ExportFormat| {
            let file = record.files.get(format.name())?;
            Some(Row { format: *format, file, footprint: Footprint::new(shape, *format, context) })
        };
        let devices = match &budget.device {
            Some(device) => vec![device],
            None => devices.iter().collect(),
        };
        let rows = config.export.formats.iter().filter_map(row).collect();
        Self { config, shape, record, budget, devices, context, rows }
    }

    /// The GGUF file that most people want: the most faithful of the quantised ones, else the smaller of the others.
    fn recommended(&self) -> Option<&Row<'a>> {
        const ORDER: [ExportFormat; 7] = [
            ExportFormat::GgufQ8_0,
            ExportFormat::GgufQ6K,
            ExportFormat::GgufQ5KM,
            ExportFormat::GgufQ4KM,
            ExportFormat::GgufQ4_0,
            ExportFormat::GgufF16,
            ExportFormat::GgufF32,
        ];
        ORDER.iter().find_map(|format| self.rows.iter().find(|row| row.format == *format))
    }
}

/// Writes `README.md`, again into the exported Hugging Face directory, and the `Modelfile` where there is a GGUF file.
///
/// # Errors
/// What the file system says.
pub fn write(card: &Card, source: &Source, out: &Path) -> anyhow::Result<()> {
    let modelfile = card.recommended().map(|row| ollama::modelfile(row, card, source)).transpose()?;
    let text = readme::text(card, source, modelfile.is_some());
    let hugging_face = card.rows.iter().find(|row| row.format == ExportFormat::HuggingFace);
    let directories = hugging_face.map(|row| out.join(&row.file.path)).into_iter().chain([out.to_owned()]);
    for directory in directories {
        let path = directory.join(README);
        write_atomically(&path, &text).with_context(|| path.display().to_string())?;
    }
    if let Some(modelfile) = modelfile {
        write_atomically(&out.join(MODELFILE), modelfile)?;
    }
    Ok(())
}

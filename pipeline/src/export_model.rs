//! `export-model`: the student in the formats that other programs load, each re-opened and compared before it counts, with a
//! model card that says what each loses and where it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use clap::Args;
use limbeck_checkpoint::{Parent, is_gguf, write_atomically};
use limbeck_config::{ExportConfig, ExportFormat, ImportanceSection, load, to_toml};
use limbeck_export::{Agreement, compare, write_gguf, write_mlx};
use limbeck_model::{TokenIds, Transformer, parameters, write_directory};
use limbeck_quant::AffineGrid;
use limbeck_train::{Comparison, say};
use serde::{Deserialize, Serialize};

use crate::card::{self, Card};
use crate::cli::ConfigArgs;
use crate::device::{self, DeviceChoice};
use crate::export_weights::ExportWeights;
use crate::failure::{Completion, Failure};
use crate::fit::{self, Budget, Container};
use crate::held_out::HeldOut;
use crate::source::{self, Source};
use crate::training::run_directory;
use crate::{output, speculation};

/// Written last: what was exported, from what.
const RECORD: &str = "export.json";

/// Tokens of the probe that every format is compared on.
const PROBE_TOKENS: usize = 48;

/// Arguments of `export-model`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Which config.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where the formats go; default: `checkpoints/<run.name>/export`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Checks the config and the model, prints the resolved config, and ends without writing.
    #[arg(long)]
    pub check: bool,
    /// Limits that the device card judges each format against: memory, latency of a token, context and device, those that
    /// matter, such as `memory=1GB,latency=50ms,context=4096`.
    #[arg(long, value_name = "LIMITS")]
    pub budget: Option<Budget>,
    /// Also puts this machine on the device card; measures how fast a gigabyte of its memory is read.
    #[arg(long)]
    pub this_machine: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
}

/// What an export directory holds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ExportRecord {
    /// The checkpoint.
    pub source: Parent,
    /// What the columns of its matrices mattered by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceSection>,
    /// What was written.
    pub files: BTreeMap<String, ExportedFile>,
    /// On what the formats were measured; `None` without held-out data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutRecord>,
}

/// The checkpoint on the held-out data.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct HeldOutRecord {
    /// Paths of the data.
    pub data: Vec<String>,
    /// The checkpoint's scores, in full precision.
    pub checkpoint: Comparison,
}

/// One exported format.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ExportedFile {
    /// File or directory, relative to the export directory.
    pub path: PathBuf,
    /// Its size; of a directory, its files' together, the model card aside.
    pub bytes: u64,
    /// Largest difference of its logits from the checkpoint's, over their standard deviation.
    pub relative_error: f64,
    /// Mean KL of its distributions from the checkpoint's on a probe of tokens from all over the vocabulary, in nats.
    pub kl_nats: f64,
    /// On held-out data; its teacher is the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Comparison>,
}

/// Runs the stage; an export of the same checkpoint and formats is left as it is. Gives the directory.
///
/// # Errors
/// Status 2 for the config, the checkpoint and a directory that holds another export; 1 where writing fails or a written
/// format does not give the checkpoint's logits.
pub fn run(args: &ExportArgs) -> Result<Completion, Failure> {
    let config: ExportConfig = load(&args.config.config, &args.config.set).map_err(Failure::usage)?;
    let out = args.out.clone().unwrap_or_else(|| run_directory(&config.run.name, "export"));
    let device = device::open(args.device)?;
    let source = source::open_masters("export.from", &config.export.from, &device)?;
    let held_out = HeldOut::open(&config, &source)?;
    if args.check {
        output::line(to_toml(&config).map_err(Failure::usage)?)?;
        return Ok(Completion::Complete { path: None });
    }
    let known = record(&out)?;
    if let Some(known) = &known {
        refuse_another(known, &config, &source, &out)?;
    }
    let mut devices = fit::devices().to_vec();
    devices.extend(args.this_machine.then(fit::this_machine));
    let budget = args.budget.clone().unwrap_or_default();
    let card = |record| Card::new(&config, source.model.config(), record, &budget, &devices);
    if let Some(known) = known.filter(|known| known.is_whole(&out)) {
        say!("export-model: already complete");
        if held_out.is_some() && known.held_out.is_none() {
            say!("note: nothing was measured on held-out data then; hint: remove `{}` to do so", out.display());
        }
        say!("\n{}", card(&known).summary());
    } else {
        let weights = ExportWeights::of(&source, &config)?;
        let record = export(&config, &weights, held_out.as_ref(), &out, &device).map_err(Failure::run)?;
        let card = card(&record);
        card::write(&card, &source, &out).map_err(Failure::run)?;
        // Last: what has it is complete.
        let text = serde_json::to_vec_pretty(&record).map_err(Failure::run)?;
        write_atomically(&out.join(RECORD), text).map_err(Failure::run)?;
        say!("\n{}", card.summary());
    }
    let gguf = config.export.formats.iter().map(|format| out.join(file_name(*format))).find(|path| is_gguf(path));
    if let Some(hint) = gguf.and_then(|gguf| speculation::llama_server(&source, &gguf)) {
        say!("{hint}");
    }
    Ok(Completion::Complete { path: Some(out) })
}

impl ExportRecord {
    /// Whether everything is there, by its size.
    fn is_whole(&self, out: &Path) -> bool {
        self.files.values().all(|file| size(&out.join(&file.path)).is_ok_and(|bytes| bytes == file.bytes))
    }
}

/// # Errors
/// If the record is that of another checkpoint, or lacks a format of the config.
fn refuse_another(record: &ExportRecord, config: &ExportConfig, source: &Source, out: &Path) -> Result<(), Failure> {
    let missing = config.export.formats.iter().find(|format| !record.files.contains_key(format.name()));
    let (out, of) = (out.display(), &record.source.path);
    let problem = match missing {
        _ if record.source.hash != source.parent.hash => format!("`{out}` already holds the export of `{of}`"),
        Some(format) => format!("`{out}` already holds an export of `{of}` without `{}`", format.name()),
        None if record.importance != config.export.importance => {
            format!("`{out}` already holds an export of `{of}` with another export.importance")
        }
        None => return Ok(()),
    };
    Err(Failure::usage(anyhow!("{problem}; hint: remove it, or give another --out")))
}

/// What the directory says that it holds; `None` where it says nothing.
///
/// # Errors
/// If the record is there and cannot be read.
pub fn record(out: &Path) -> Result<Option<ExportRecord>, Failure> {
    let path = out.join(RECORD);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::usage(anyhow!("`{}`: {error}", path.display()))),
    };
    let record =
        serde_json::from_str(&text).with_context(|| format!("`{}` is damaged; hint: remove it", path.display()));
    record.map(Some).map_err(Failure::usage)
}

fn export(
    config: &ExportConfig,
    weights: &ExportWeights,
    held_out: Option<&HeldOut>,
    out: &Path,
    device: &Device,
) -> anyhow::Result<ExportRecord> {
    let source = weights.source();
    std::fs::create_dir_all(out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let probe = Probe::of(weights.model());
    let mut files = BTreeMap::new();
    let mut checkpoint = None;
    for format in &config.export.formats {
        let name = format.name();
        let path = out.join(file_name(*format));
        let reopened =
            write(*format, weights, &path, device).with_context(|| format!("{name}: `{}`", path.display()))?;
        let Agreement { relative_error, kl_nats } = probe.agreement(&reopened);
        // NaN is not below the limit either.
        let agrees = relative_error <= tolerance(*format);
        if !agrees {
            return Err(anyhow!(
                "{name}: `{}` gives other logits than the checkpoint: relative error `{relative_error:.2e}`, must be at \
                 most `{:.0e}`; hint: do not use this file",
                path.display(),
                tolerance(*format)
            ));
        }
        let bytes = size(&path)?;
        say!("{name}: {} · {bytes} bytes · logits within {relative_error:.1e} · KL {kl_nats:.1e} nats", path.display());
        if let Some(kept) = weights.kept_in(&reopened) {
            say!("{name}: {kept}");
        }
        let measured = held_out.map(|held_out| held_out.compare(&reopened, weights.model()));
        checkpoint = measured.map(|(_, checkpoint)| checkpoint);
        let held_out = measured.map(|(file, _)| file);
        let path = file_name(*format).into();
        files.insert(name.to_owned(), ExportedFile { path, bytes, relative_error, kl_nats, held_out });
    }
    let held_out = held_out.zip(checkpoint);
    let held_out = held_out.map(|(held_out, checkpoint)| HeldOutRecord { data: held_out.paths(), checkpoint });
    Ok(ExportRecord { source: source.parent.clone(), importance: config.export.importance.clone(), files, held_out })
}

fn file_name(format: ExportFormat) -> &'static str {
    match format {
        ExportFormat::HuggingFace => "hugging-face",
        ExportFormat::GgufF32 => "model-f32.gguf",
        ExportFormat::GgufF16 => "model-f16.gguf",
        ExportFormat::GgufQ8_0 => "model-q8_0.gguf",
        ExportFormat::GgufQ6K => "model-q6_k.gguf",
        ExportFormat::GgufQ5KM => "model-q5_k_m.gguf",
        ExportFormat::GgufQ4KM => "model-q4_k_m.gguf",
        ExportFormat::GgufQ4_0 => "model-q4_0.gguf",
        ExportFormat::MlxQ8 => "mlx-q8",
        ExportFormat::MlxQ4 => "mlx-q4",
    }
}

/// How far the logits of a re-opened file may be off, relative to their standard deviation. 32-bit floats come back as
/// they were; the others are several times what trained models showed, and far below what a swapped row makes.
fn tolerance(format: ExportFormat) -> f64 {
    match format {
        ExportFormat::HuggingFace | ExportFormat::GgufF32 => 1e-5,
        ExportFormat::GgufF16 => 2e-2,
        ExportFormat::GgufQ8_0 | ExportFormat::GgufQ6K | ExportFormat::MlxQ8 => 0.5,
        ExportFormat::GgufQ5KM => 1.0,
        ExportFormat::GgufQ4KM | ExportFormat::GgufQ4_0 | ExportFormat::MlxQ4 => 2.0,
    }
}

/// Writes the format and opens it again.
fn write(format: ExportFormat, weights: &ExportWeights, path: &Path, device: &Device) -> anyhow::Result<Transformer> {
    let (source, model) = (weights.source(), weights.model());
    let kind = match fit::container(format) {
        Container::HuggingFace => {
            write_model_directory(source, path, |ids, path| Ok(write_directory(model, ids, path)?))?;
            return source::model_at(path, device);
        }
        Container::Mlx(grid) => return write_for_mlx(grid, source, model, path, device),
        Container::Gguf(kind) => kind,
    };
    let (tensors, storage) = weights.stored_as(kind);
    let report = with_tokenizer_files(source, path, |files| {
        Ok(write_gguf(path, source.model.config(), &tensors, files, storage)?)
    })?;
    for note in report.notes.iter().cloned().chain(report.fallbacks.iter().map(ToString::to_string)) {
        say!("note: {note}");
    }
    source::model_at(path, device)
}

/// Gives `write` a directory with the source's tokenizer: the source, or, where that is one file, another beside `path` for
/// as long as it is needed.
fn with_tokenizer_files<T>(
    source: &Source,
    path: &Path,
    write: impl FnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if source.path.is_dir() {
        return write(&source.path);
    }
    let files = path.with_extension("tokenizer.tmp");
    source.tokenizer.save(&files)?;
    let written = write(&files);
    std::fs::remove_dir_all(&files)?;
    written
}

fn write_for_mlx(
    grid: AffineGrid,
    source: &Source,
    model: &Transformer,
    path: &Path,
    device: &Device,
) -> anyhow::Result<Transformer> {
    let unpacked = write_model_directory(source, path, |ids, path| {
        Ok(write_mlx(path, model.config(), &parameters(model), ids, grid)?)
    })?;
    for matrix in unpacked {
        say!("note: {matrix}");
    }
    source::model_at(path, device)
}

/// The tokenizer, and the model by `write`: first under another name, so that a directory of this name is whole.
fn write_model_directory<T>(
    source: &Source,
    path: &Path,
    write: impl FnOnce(&TokenIds, &Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let temporary = path.with_extension("tmp");
    for stale in [&temporary, path] {
        if stale.exists() {
            std::fs::remove_dir_all(stale)?;
        }
    }
    std::fs::create_dir_all(&temporary)?;
    let tokenizer = &source.tokenizer;
    let ids = TokenIds { end: tokenizer.stop_ids(), padding: tokenizer.end_of_text() };
    let written = write(&ids, &temporary)?;
    tokenizer.save(&temporary)?;
    std::fs::rename(&temporary, path)?;
    Ok(written)
}

fn size(path: &Path) -> std::io::Result<u64> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    let counts = |entry: &std::fs::DirEntry| entry.file_name() != card::README;
    entries.iter().filter(|entry| counts(entry)).map(|entry| Ok(entry.metadata()?.len())).sum()
}

/// Tokens from all over the vocabulary, and the checkpoint's logits for them.
struct Probe {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    logits: Vec<f32>,
}

impl Probe {
    fn of(model: &Transformer) -> Self {
        let config = model.config();
        let length = PROBE_TOKENS.min(config.max_position_embeddings);
        // A stride of a prime: every part of the vocabulary, nothing twice in a row.
        let tokens = (0..length).map(|i| (1 + i * 7919) as u32 % config.vocab_size as u32).collect();
        let mut probe = Self { tokens, positions: (0..length as u32).collect(), logits: Vec::new() };
        probe.logits = probe.logits_of(model);
        probe
    }

    fn logits_of(&self, model: &Transformer) -> Vec<f32> {
        let logits = model.logits(&self.tokens, &self.positions, self.tokens.len());
        logits.into_data().convert::<f32>().try_into_vec().expect("converted to 32-bit floats")
    }

    fn agreement(&self, model: &Transformer) -> Agreement {
        compare(&self.logits, &self.logits_of(model), self.logits.len() / self.tokens.len())
    }
}

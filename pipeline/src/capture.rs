//! `distill --capture`: the teacher's logits for the training data, kept for any number of trainings.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use limbeck_config::{LogitsCodec, TrainingConfig, TrainingStage, load_training, to_toml};
use limbeck_data::{Mixture, Tokenizer};
use limbeck_logits::{CacheHeader, Capture, Fidelity, Identity, Shard};
use limbeck_model::{Transformer, fingerprint};
use limbeck_train::{CaptureEnding, CaptureEvent, say};

use crate::cli::TrainingArgs;
use crate::failure::{Completion, Failure};
use crate::interrupt::Interrupt;
use crate::{device, output, source, teacher, tokenised};

/// Time between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Captures one shard of the cache that `teacher.logits` names; complete, it gives the cache's path.
///
/// # Errors
/// Status 2 for everything that is found wrong before the teacher runs, status 1 for what happens after it.
pub fn run(args: &TrainingArgs, shard: Shard) -> Result<Completion, Failure> {
    let mut config =
        load_training(TrainingStage::Distill, &args.config.config, &args.config.set).map_err(Failure::usage)?;
    let (from, directory) = paths(&config)?;
    let device = device::open(args.device)?;
    let precision = device::precision("train.precision", config.train.precision, &device)?;
    config.train.precision = Some(precision);
    let tokenizer = tokenizer(&config)?;
    let teacher = teacher::model(&config, &from, &tokenizer, &device)?;
    let data = tokenised::open(&config, &config.data.train, &tokenizer)?;
    let teacher = teacher.gathered(&config, &data)?;
    let header = header(&config, &teacher.model, &tokenizer, &data)?.with_precision(precision);
    if args.check {
        output::line(to_toml(&config).map_err(Failure::usage)?)?;
        let (parts, extent) = (header.parts(), header.extent);
        say!("capture: {} rows, {} segments, {parts} parts", extent.rows, extent.segments);
        return Ok(Completion::Complete { path: None });
    }
    let mut capture = Capture::open(&directory, header, shard).map_err(Failure::usage)?;
    for path in capture.damaged() {
        say!("warning: `{}` was damaged, and is captured again", path.display());
    }
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new(&capture);
    let ending =
        limbeck_train::capture(&teacher.model, &data, &mut capture, &|| interrupt.signal().is_some(), &mut |event| {
            progress.on(event)
        });
    match ending.map_err(Failure::run)? {
        CaptureEnding::Complete => {
            progress.close(shard);
            Ok(Completion::Complete { path: Some(directory) })
        }
        CaptureEnding::Interrupted => {
            let signal = interrupt.signal().unwrap_or(signal_hook::consts::SIGINT);
            Ok(Completion::Interrupted { signal })
        }
    }
}

/// Teacher and cache.
fn paths(config: &TrainingConfig) -> Result<(PathBuf, PathBuf), Failure> {
    let teacher = config.teacher.as_ref();
    let key = |key: &str, path: Option<&PathBuf>, what: &str| {
        let missing = || Failure::usage(anyhow!("{key} is missing, --capture needs it; hint: set it to {what}"));
        path.cloned().ok_or_else(missing)
    };
    let from = key("teacher.from", teacher.and_then(|section| section.from.as_ref()), "the model to capture from")?;
    let logits = teacher.and_then(|section| section.logits.as_ref());
    Ok((from, key("teacher.logits", logits, "the directory to capture to")?))
}

/// The tokenizer of what will be trained: without its weights, which capturing has no use for.
fn tokenizer(config: &TrainingConfig) -> Result<Tokenizer, Failure> {
    match (&config.data.tokenizer, config.start.from()) {
        (Some(path), _) => source::tokenizer("data.tokenizer", path),
        (None, Some(from)) => source::tokenizer("start.from", from),
        // Loading the config refuses it first.
        (None, None) => Err(Failure::usage(anyhow!("data.tokenizer is missing; hint: name a `tokenizer.json`"))),
    }
}

fn header(
    config: &TrainingConfig,
    teacher: &Transformer,
    tokenizer: &Tokenizer,
    data: &Mixture,
) -> Result<CacheHeader, Failure> {
    let identity = Identity {
        data: data.segments_fingerprint(),
        tokenizer: tokenizer.hash(),
        teacher: fingerprint(teacher),
        sequence_length: data.sequence_length() as u64,
        // Rows that only pad the teacher's vocabulary have no part in the loss.
        vocab_size: tokenizer.vocab_size() as u64,
    };
    let section = config.capture.clone().unwrap_or_default();
    let temperature = config.distill.clone().unwrap_or_default().temperature;
    let extent = (data.fixed_rows(), data.fixed_segments(), config.micro_batch_size() as u64);
    let seed = section.seed.unwrap_or(config.seed());
    CacheHeader::new(identity, section.codec, temperature, seed, extent).map_err(Failure::usage)
}

/// Where a capture is, on stderr: a line every ten seconds, and one at the end.
struct Progress {
    started: Instant,
    last: Instant,
    /// Rows of the shard that are to come when it begins, and those that were done since.
    rows: u64,
    done: u64,
    targets: u64,
    /// Of the parts that were written since it began.
    part_targets: u64,
    part_ids: u64,
    part_bytes: u64,
    fidelity: Fidelity,
    /// What the fidelity's divergence is.
    divergence: &'static str,
    /// Of the shard.
    bytes: u64,
}

impl Progress {
    fn new(capture: &Capture) -> Self {
        let header = capture.header();
        let pending = capture.pending();
        let rows = pending.iter().map(|part| header.part_rows(*part)).map(|rows| rows.end - rows.start).sum();
        let (all, kept) = (header.parts(), capture.bytes());
        say!("capture: {} of {all} parts to write, {rows} rows, {kept} bytes are there", pending.len());
        let now = Instant::now();
        Self {
            started: now,
            last: now,
            rows,
            done: 0,
            targets: 0,
            part_targets: 0,
            part_ids: 0,
            part_bytes: 0,
            fidelity: Fidelity::default(),
            divergence: match header.codec {
                LogitsCodec::RandomSampling { .. } => "KL(one draw || teacher), noise without bias,",
                LogitsCodec::TopK { .. } => "KL(teacher || cache with its rest shared out evenly)",
                LogitsCodec::Full {} => "KL(teacher || cache)",
            },
            bytes: kept,
        }
    }

    fn on(&mut self, event: CaptureEvent) {
        match event {
            CaptureEvent::Batch { rows, targets } => {
                self.done += rows;
                self.targets += targets;
            }
            CaptureEvent::Part(report) => {
                self.part_targets += report.targets;
                self.part_ids += report.ids;
                self.part_bytes += report.bytes;
                self.bytes += report.bytes;
                self.fidelity += report.fidelity;
            }
        }
        if self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            let left = self.rows.saturating_sub(self.done) as f64;
            let share = left / self.done.max(1) as f64;
            let seconds = self.started.elapsed().as_secs_f64() * share;
            let bytes = self.bytes_per_token() * self.targets as f64 * share;
            say!("capture: {} · {seconds:.0} s and {:.1} MB left", self.rates(), bytes / 1e6);
        }
    }

    fn bytes_per_token(&self) -> f64 {
        self.part_bytes as f64 / self.part_targets.max(1) as f64
    }

    fn ids_per_token(&self) -> f64 {
        self.part_ids as f64 / self.part_targets.max(1) as f64
    }

    fn rates(&self) -> String {
        let speed = self.targets as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let (row, rows) = (self.done, self.rows);
        let Fidelity { targets, .. } = self.fidelity;
        let kept = if targets == 0 {
            String::new()
        } else {
            let (kl, ids) = (self.fidelity.mean_kl_nats(), self.ids_per_token());
            let (bytes, what) = (self.bytes_per_token(), self.divergence);
            format!(" · {bytes:.2} bytes/token · {ids:.1} ids/token · {what} {kl:.4} nats ({targets} probes)")
        };
        format!("row {row}/{rows} · {speed:.0} tokens/s{kept}")
    }

    fn close(&self, shard: Shard) {
        let (bytes, seconds) = (self.bytes, self.started.elapsed().as_secs_f64());
        say!("capture: {}", self.rates());
        say!("capture: shard {shard} is complete, {bytes} bytes, {seconds:.1} s");
    }
}

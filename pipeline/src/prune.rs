//! `start.kind = "prune"`: a student cut from its teacher before its first step.

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::Device;
use limbeck_checkpoint::{Parent, write_atomically};
use limbeck_config::{ModelConfig, PruneSection, TrainingConfig};
use limbeck_data::{Mixture, Tokenizer};
use limbeck_model::Transformer;
use limbeck_train::{PruneEvent, PruneReport, prune, say};
use serde::Serialize;

use crate::failure::Failure;
use crate::source::{self, Source};
use crate::{device, training};

/// Beside a run's `config.toml`: what was cut.
const REPORT_FILE: &str = "prune.json";

/// A model that is to be cut, and to what.
pub struct Plan {
    path: PathBuf,
    model: Transformer,
    parent: Parent,
    /// Its ids of the student's tokens, where the student has some of them alone.
    tokens: Option<Vec<u32>>,
    shape: ModelConfig,
    calibration_tokens: usize,
}

/// What was cut: the content of `prune.json`. It holds no time, so that the same cut is the same file.
#[derive(Serialize)]
pub struct Report {
    from: Parent,
    #[serde(flatten)]
    pruned: PruneReport,
}

impl Plan {
    /// Opens what `[start]` names and settles the shape; gives the student's tokenizer too: `named`, or that of the model.
    ///
    /// # Errors
    /// A model that cannot be opened or cut to the shape; a tokenizer that is neither the model's nor that restricted to some
    /// of its tokens.
    pub fn open(
        section: &PruneSection,
        named: Option<Tokenizer>,
        config: &TrainingConfig,
        device: &Device,
    ) -> Result<(Self, Tokenizer), Failure> {
        let source = source::open("start.from", &section.from, device)?;
        source.check_length("start.from", config.data.sequence_length)?;
        let Source { path, model, tokenizer, parent } = source;
        let tokens = named.as_ref().map(|named| named.rows_in(&tokenizer)).transpose();
        let tokens = tokens.context("data.tokenizer does not go with start.from").map_err(Failure::usage)?.flatten();
        let vocab_size = tokens.as_ref().map_or(model.config().vocab_size, Vec::len);
        let shape = section.resolve(model.config(), vocab_size).map_err(training::refused)?;
        // Resolved by the time that a model is opened.
        let precision = config.train.precision.map_or(limbeck_kernels::Precision::Fp32, device::of_products);
        let model = model.with_precision(precision);
        let plan = Self { path, model, parent, tokens, shape, calibration_tokens: section.calibration_tokens };
        Ok((plan, named.unwrap_or(tokenizer)))
    }

    /// The shape of the student.
    pub fn shape(&self) -> &ModelConfig {
        &self.shape
    }

    /// What the student's checkpoints say of the model that it is cut from.
    pub fn parent(&self) -> Parent {
        self.parent.clone()
    }

    /// Cuts, by what matters on the first rows of `data`; the student is on `device` with autodiff. Says on stderr what goes.
    ///
    /// # Errors
    /// A model whose loss is not finite.
    pub fn run(
        self,
        config: &TrainingConfig,
        data: &Mixture,
        device: &Device,
    ) -> Result<(Transformer, Report), Failure> {
        let rows = self.calibration_tokens.div_ceil(config.data.sequence_length);
        let batches = data.batch(0, rows).micro_batches(config.micro_batch_size());
        let device = device.clone().autodiff();
        let pruned = prune(&self.model, self.tokens.as_deref(), &self.shape, &batches, &device, &mut say)
            .with_context(|| format!("start.from is `{}`", self.path.display()))
            .map_err(Failure::usage)?;
        summarise(self.model.config(), &self.shape, &pruned.report);
        Ok((pruned.model, Report { from: self.parent, pruned: pruned.report }))
    }
}

impl Report {
    /// Writes it into a run's directory.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(self).map_err(Failure::usage)?;
        write_atomically(&directory.join(REPORT_FILE), json + "\n").map_err(Failure::usage)
    }
}

/// The search for blocks is what takes long.
fn say(event: PruneEvent) {
    match event {
        PruneEvent::Loss { loss_nats } => say!("prune: loss {loss_nats:.4} nats before the cut"),
        PruneEvent::Block { removed, left } => {
            say!("prune: block {} goes, loss {:.4} nats; {left} more to go", removed.block, removed.loss_nats);
        }
    }
}

fn summarise(whole: &ModelConfig, shape: &ModelConfig, report: &PruneReport) {
    let heads = |config: &ModelConfig| format!("{}/{}", config.num_attention_heads, config.num_key_value_heads);
    let sizes = [
        ("blocks", whole.num_hidden_layers.to_string(), shape.num_hidden_layers.to_string()),
        ("heads (query/key-value)", heads(whole), heads(shape)),
        ("neurons", whole.intermediate_size.to_string(), shape.intermediate_size.to_string()),
        ("channels", whole.hidden_size.to_string(), shape.hidden_size.to_string()),
        ("tokens", whole.vocab_size.to_string(), shape.vocab_size.to_string()),
    ];
    for (what, before, after) in sizes.iter().filter(|(_, before, after)| before != after) {
        say!("prune: {what}: {before} to {after}");
    }
    let PruneReport { parameters, loss_nats, calibration, blocks, channels, .. } = report;
    let mean = |share: fn(&limbeck_train::BlockReport) -> f64| {
        100.0 * blocks.iter().map(share).sum::<f64>() / blocks.len().max(1) as f64
    };
    let [heads, neurons, channels] = [
        mean(|block| block.dropped_heads_share),
        mean(|block| block.dropped_neurons_share),
        100.0 * channels.dropped_share,
    ];
    if heads + neurons + channels > 0.0 {
        say!(
            "prune: of the importance went {heads:.1} % of the heads, {neurons:.1} % of the neurons, {channels:.1} % of the \
             channels"
        );
    }
    say!(
        "prune: {} of {} parameters stay; loss {:.4} to {:.4} nats on {} targets",
        parameters.after,
        parameters.before,
        loss_nats.before,
        loss_nats.after,
        calibration.target_tokens
    );
}

//! The sections of a stage's TOML, the same words in every stage.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::ModelSection;

/// `[run]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunSection {
    /// Names the run: its directory is `checkpoints/<name>/<stage's directory>`.
    pub name: String,
    /// Everything random is a function of it.
    #[serde(default)]
    pub seed: u64,
}

/// What a data file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Texts; every token is a target.
    Documents,
    /// Conversations; the assistant's tokens and its end-of-turn are targets.
    Chats,
}

/// One `[[data.train]]` or `[[data.valid]]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataEntry {
    /// A file, a directory or a glob of `.parquet`, `.jsonl` or `.txt` files, relative to the working directory.
    pub path: String,
    /// What the files hold.
    #[serde(default = "documents")]
    pub kind: DataKind,
    /// Column (key, in JSONL) of the text, default `text`; for chats of the list of messages, default `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Chats without messages: column of the user's turn. Given together with `completion_column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_column: Option<String>,
    /// Chats without messages: column of the assistant's turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_column: Option<String>,
    /// Share of the training rows, relative to the other entries' weights.
    #[serde(default = "one")]
    pub weight: f64,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// A `tokenizer.json`; default: that of `start.from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Tokens in a row of a batch, and the longest segment.
    pub sequence_length: usize,
    /// Directory of the tokenised shards.
    #[serde(default = "cache")]
    pub cache: PathBuf,
    /// What is trained on.
    pub train: Vec<DataEntry>,
    /// What is held out.
    #[serde(default)]
    pub valid: Vec<DataEntry>,
}

/// Arithmetic of the training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats everywhere.
    Fp32,
}

/// `[train]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Optimizer steps; give this or `max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Tokens, padding included, rounded up to whole steps; give this or `max_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Tokens of an optimizer step, padding included: a multiple of `data.sequence_length`.
    pub tokens_per_step: usize,
    /// Rows of one forward pass; default: the whole step. Does not change what is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<usize>,
    /// Arithmetic.
    #[serde(default = "fp32")]
    pub precision: Precision,
    /// Steps between two rows of `metrics.jsonl`.
    #[serde(default = "one_step")]
    pub log_every: u64,
    /// Steps between two evaluations; default: only after the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<u64>,
    /// Steps between two checkpoints; default: only after the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_every: Option<u64>,
    /// Checkpoints that are kept, at least 2.
    #[serde(default = "two")]
    pub keep_checkpoints: usize,
}

/// Settings of the parameters whose name matches.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// A glob over parameter names, such as `*.embed_tokens.weight`. The first group that matches counts.
    pub parameters: String,
    /// Factor on the learning rate.
    #[serde(default = "one")]
    pub learning_rate_scale: f64,
    /// Decoupled weight decay; default: `optimizer.weight_decay` for matrices, 0 for vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// `[optimizer]`: AdamW with decoupled decay (Loshchilov and Hutter 2019, arXiv:1711.05101).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSection {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    #[serde(default = "beta_1")]
    pub beta_1: f64,
    /// Decay of the second moment.
    #[serde(default = "beta_2")]
    pub beta_2: f64,
    /// Added to the denominator.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Decoupled weight decay of matrices; vectors have none.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Largest global norm of the gradient.
    #[serde(default = "one")]
    pub max_grad_norm: f64,
    /// Exceptions by parameter name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
}

/// `[schedule]`: the learning rate's factor over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSection {
    /// Linear warm-up, then half a cosine down to `final_ratio`.
    Cosine {
        /// Steps of warm-up.
        warmup_steps: u64,
        /// Last learning rate over the peak.
        #[serde(default = "a_tenth")]
        final_ratio: f64,
    },
    /// Linear warm-up, flat, then linear decay over the last `decay_steps` (MiniCPM, arXiv:2404.06395).
    WarmupStableDecay {
        /// Steps of warm-up.
        warmup_steps: u64,
        /// Steps of decay.
        decay_steps: u64,
        /// Last learning rate over the peak.
        #[serde(default)]
        final_ratio: f64,
    },
}

/// `[start]`: where the weights come from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum StartSection {
    /// Random weights of shape `[model]`.
    Random {},
    /// The weights, shape and tokenizer of a model directory.
    Checkpoint {
        /// A step directory, a run directory (its newest valid step), or a Hugging Face directory.
        from: PathBuf,
    },
}

/// `[teacher]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherSection {
    /// A step directory, a run directory (its newest valid step), or a Hugging Face directory.
    pub from: PathBuf,
}

/// How far the student's distribution is from the teacher's.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Divergence {
    /// KL(teacher ‖ student).
    ForwardKl {},
}

/// `[distill]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DistillSection {
    /// The loss between teacher and student.
    #[serde(default = "forward_kl")]
    pub divergence: Divergence,
    /// Divides both models' logits in the divergence, which is then multiplied by its square.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Weight of cross-entropy on the data; the divergence has the rest. 0 and 1 are the pure losses.
    #[serde(default)]
    pub ce_weight: f64,
}

/// `pretrain`, `sft` and `distill` read the same file; only `distill` has `[teacher]` and `[distill]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Name and seed.
    pub run: RunSection,
    /// What is read.
    pub data: DataSection,
    /// Where the weights come from.
    #[serde(default = "random")]
    pub start: StartSection,
    /// Shape, where the weights are random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSection>,
    /// Steps, batches, intervals.
    pub train: TrainSection,
    /// AdamW.
    pub optimizer: OptimizerSection,
    /// Learning rate over the steps.
    pub schedule: ScheduleSection,
    /// `distill`: whose logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherSection>,
    /// `distill`: which loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillSection>,
}

/// A corpus that `prepare` writes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CorpusSection {
    /// The embedded world, as parquet.
    Tiny {
        /// Where `train.parquet`, `valid.parquet`, `chats-train.parquet`, `chats-valid.parquet` go.
        path: PathBuf,
        /// Training documents.
        train_documents: usize,
        /// Held-out documents.
        valid_documents: usize,
        /// Training chats.
        train_chats: usize,
        /// Held-out chats.
        valid_chats: usize,
    },
}

/// `[tokenizer]` of `prepare`: byte-level BPE trained on `[[data.train]]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSection {
    /// Where `tokenizer.json` and `tokenizer_config.json` go: a directory.
    pub path: PathBuf,
    /// Entries, special tokens included.
    pub vocab_size: usize,
}

/// `[data]` of `prepare`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareDataSection {
    /// What the tokenizer is trained on.
    pub train: Vec<DataEntry>,
}

/// `prepare`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareConfig {
    /// Name and seed.
    pub run: RunSection,
    /// A corpus to write first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus: Option<CorpusSection>,
    /// What is read.
    pub data: PrepareDataSection,
    /// The tokenizer to train.
    pub tokenizer: TokenizerSection,
}

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
}

/// `[export]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExportSection {
    /// A step directory, a run directory (its newest valid step), or a Hugging Face directory.
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

fn documents() -> DataKind {
    DataKind::Documents
}

fn one() -> f64 {
    1.0
}

fn cache() -> PathBuf {
    "data/cache".into()
}

fn fp32() -> Precision {
    Precision::Fp32
}

fn one_step() -> u64 {
    1
}

fn two() -> usize {
    2
}

fn beta_1() -> f64 {
    0.9
}

fn beta_2() -> f64 {
    0.95
}

fn epsilon() -> f64 {
    1e-8
}

fn weight_decay() -> f64 {
    0.1
}

fn a_tenth() -> f64 {
    0.1
}

fn forward_kl() -> Divergence {
    Divergence::ForwardKl {}
}

fn random() -> StartSection {
    StartSection::Random {}
}

//! The configs of the stages: their keys, their rules, and messages that say how to mend them.
//!
//! [`load()`] and [`load_training`] read a TOML file with `--set` overrides, check every key and value, and give a config
//! that holds, or [`ConfigErrors`] with everything that is wrong at once. [`TrainingConfig`] serves `pretrain`, `sft` and
//! `distill`, [`PrepareConfig`] and [`ExportConfig`] the stages around them. [`ModelSection::resolve`] makes the checked
//! [`ModelConfig`] once the tokenizer is known. Paths are not opened here: who reads them finds out.
//!
//! ```text
//! text ──parse──▶ document ──--set──▶ document ──conform──▶ mended document ──serde──▶ config ──rules──▶ config
//!           │         (values, lines)                │                                           │
//!           └ syntax                                 └ unknown, missing, wrong type              └ ranges, pairs
//! ```
//!
//! Which keys there are comes from the structs alone: `schema` asks their deserialisers. A new key is a field with a
//! comment, a default, and a rule in the `check` of its section; the tests ask for it in the shipped configs.
//!
//! ```
//! use limbeck_config::{TrainingStage, load_training};
//!
//! let path = std::env::temp_dir().join("limbeck-config-doc.toml");
//! std::fs::write(&path, r#"
//!     run.name = "doc"
//!     data = { tokenizer = "tokenizer.json", sequence_length = 128, train = [{ path = "corpus.parquet" }] }
//!     model = { hidden_size = 96, intermediate_size = 256, num_hidden_layers = 2, num_attention_heads = 4 }
//!     train = { max_tokens = 100_000, tokens_per_step = 1024 }
//!     optimizer.learning_rate = 1e-3
//!     schedule = { kind = "cosine", warmup_steps = 10 }
//! "#)?;
//!
//! let config = load_training(TrainingStage::Pretrain, &path, &["train.micro_batch_size=4".into()])?;
//! assert_eq!((config.rows_per_step(), config.micro_batch_size(), config.max_steps()), (8, 4, 98));
//!
//! let errors = load_training(TrainingStage::Pretrain, &path, &["train.max_step=4".into()]).unwrap_err();
//! assert!(errors.to_string().contains("did you mean `max_steps`"));
//! # std::fs::remove_file(path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod capture;
mod conform;
mod data;
mod document;
mod export;
mod fake_quant;
mod generate;
mod hidden;
mod load;
mod model;
mod on_policy;
mod optimizer;
mod overrides;
mod prepare;
mod problem;
mod prune;
mod reader;
mod rules;
mod run;
mod schema;
mod shape;
mod suggest;
#[cfg(test)]
mod tests;
mod training;
mod weights;

pub use capture::{CaptureSection, LogitsCodec, TeacherSection};
pub use data::{DataEntry, DataKind, DataSection};
pub use export::{ExportConfig, ExportDataSection, ExportFormat, ExportSection, ImportanceSection};
pub use fake_quant::{ActivationGrid, EmbeddingGrid, FakeQuantSection, WeightGrid};
pub use generate::GenerateSection;
pub use hidden::{HiddenDistance, HiddenSection};
pub use load::{StageConfig, load, load_training, to_toml};
pub use model::{Architecture, ModelConfig, ModelSection};
pub use on_policy::OnPolicySection;
pub use optimizer::{OptimizerSection, ParameterGroup, ScheduleSection};
pub use prepare::{CorpusSection, PrepareConfig, PrepareDataSection, TokenizerKind, TokenizerSection};
pub use problem::{ConfigError, ConfigErrors, Origin, Problem};
pub use prune::PruneSection;
pub use run::RunSection;
pub use suggest::nearest;
pub use training::{Precision, Recompute, TrainSection, TrainingConfig, TrainingStage};
pub use weights::{DistillSection, Divergence, StartSection};

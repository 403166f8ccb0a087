//! The stages: the one place that knows every crate.
//!
//! `prepare → pretrain → sft → distill → export-model`, each a module with a `run`, a config and a binary; [`chain`] runs
//! them all; [`plan`] says before the first what shapes a device allows. `pretrain`, `sft` and `distill` differ in their objective and share [`training`].

pub mod allocator;
pub mod answer_text;
pub mod answers;
pub mod bench;
pub mod capture;
pub mod card;
pub mod chain;
pub mod chat;
pub mod check;
pub mod cli;
pub mod command;
pub mod control;
pub mod device;
pub mod distill;
pub mod evaluate;
pub mod export_model;
pub mod export_weights;
pub mod failure;
pub mod fake_quant;
pub mod fit;
pub mod gap;
pub mod generate;
pub mod held_out;
pub mod importance;
pub mod interrupt;
pub mod output;
pub mod plan;
pub mod prepare;
pub mod pretrain;
pub mod prune;
pub mod report;
pub mod serve;
pub mod sft;
pub mod source;
pub mod speculation;
pub mod teacher;
pub mod tokenised;
pub mod training;

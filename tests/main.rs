//! What Limbeck promises, one module a behaviour. Values of other programs are in `reference/`.

/// Micro-batches give the gradients of the whole batch.
mod accumulation;
/// Conversations that the teacher answers, for `sft`.
mod answers;
/// Bad input is refused by name, and nothing that was complete is touched.
mod bad_input;
/// What is measured adds up.
mod bench;
/// The model card: what it says, and that what it names is there.
mod card;
/// Conversations on a terminal or through pipes.
mod chat;
/// llama.cpp, mlx-lm and transformers open our files.
mod clients;
/// Training on the grid of an export.
mod fake_quant;
/// The report of `distill`.
mod gap;
/// The key-value cache gives what the full forward pass gives.
mod generation;
/// Hidden states beside the teacher's.
mod hidden;
/// What was exported is the same model when it is read again.
mod imports;
/// The first loss, a batch learnt by heart, the loss head in chunks.
mod learning;
/// A teacher's logits on disk.
mod logits;
/// Steps that learn from what the student itself says.
mod on_policy;
/// In place, resumable, grouped by name.
mod optimizer;
/// Segments of a row do not see each other.
mod packing;
/// transformers and PyTorch agree.
mod parity;
/// What shapes a budget allows.
mod plan;
/// Levels of instructions and precisions agree.
mod precision;
/// A student cut from its teacher: what goes, and that it is what matters least.
mod prune;
/// The commands and files that the documents name.
mod readme;
/// Blocks that the backward pass computes again.
mod recompute;
/// Interrupted runs equal uninterrupted ones.
mod resume;
/// A model behind OpenAI's API.
mod server;
/// Every shipped config passes `--check`.
mod shipped_configs;
/// What a student is worth as its teacher's draft model.
mod speculation;
/// What the commands print and leave behind.
mod stages;
/// Fixtures, batches, distances.
mod support;
/// Models that users have already: Hugging Face directories and GGUF files.
mod teachers;
/// A student with some of its teacher's tokens.
mod vocabulary;

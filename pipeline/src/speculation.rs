//! `evaluate --draft`: what a student is worth as the draft model of its teacher.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use limbeck_checkpoint::{is_gguf, resolve};
use limbeck_config::{DataEntry, ModelConfig};
use limbeck_data::Tokenizer;
use limbeck_data::source::{Record, records};
use limbeck_model::{Generation, Sampling, Transformer, generate_in_batches};
use limbeck_train::{Blocks, Chance, chances, expected_tokens, speed_up};
use serde_json::{Value, json};

use crate::evaluate::Question;
use crate::failure::Failure;
use crate::generate::{chat_prompt, text_prompt};
use crate::source::{self, Source};

/// Answers that are generated together.
const ROWS: usize = 16;

/// Tokens of a document that its continuation begins after, at most; half of it where it is shorter.
const DOCUMENT_TOKENS: usize = 32;

/// Arguments of `evaluate --draft`.
#[derive(Args, Clone, Debug)]
pub struct SpeculationArgs {
    /// Instead of the losses: how many tokens a speculative decoder of this model would accept from the one at PATH as
    /// draft, where it answers the chats of the data, or goes on from beginnings of its documents.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["answers", "sequence_length"])]
    pub draft: Option<PathBuf>,
    /// With `--draft`: tokens that are drafted before the model checks them; several numbers with commas.
    #[arg(
        long,
        value_name = "TOKENS",
        value_delimiter = ',',
        default_value = "4",
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub draft_tokens: Vec<u16>,
    /// With `--draft`: prompts at most.
    #[arg(long, default_value_t = 64)]
    pub prompts: usize,
    /// With `--draft`: tokens of an answer at most.
    #[arg(long, default_value_t = 64)]
    pub max_new_tokens: usize,
    /// With `--draft`: of the sampled answers.
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// With `--draft`: of their draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl SpeculationArgs {
    /// # Errors
    /// If a number is out of range.
    pub fn check(&self) -> Result<(), Failure> {
        let wrong = |what: String| Err(Failure::usage(anyhow!(what)));
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            let hint = "greedy answers are there in any case";
            return wrong(format!("--temperature is `{}`, must be a number over `0`; hint: {hint}", self.temperature));
        }
        if self.prompts == 0 || self.max_new_tokens == 0 {
            let option = if self.prompts == 0 { "--prompts" } else { "--max-new-tokens" };
            return wrong(format!("{option} is `0`, must be at least `1`; hint: leave it out"));
        }
        Ok(())
    }
}

/// The report as JSON.
///
/// # Errors
/// If the tokenizers differ, the data cannot be read, or no prompt leaves room for an answer.
pub fn evaluate(target: &Source, draft: &Source, data: &DataEntry, args: &SpeculationArgs) -> Result<Value, Failure> {
    draft
        .tokenizer
        .check_same(&target.tokenizer)
        .with_context(|| {
            format!("--draft `{}` cannot draft for --from `{}`", draft.path.display(), target.path.display())
        })
        .map_err(Failure::usage)?;
    let prompts = prompts(target, draft, data, args)?;
    let cost = weights_read(draft.model.config()) as f64 / weights_read(target.model.config()) as f64;
    let mut report = json!({
        "model": target.path, "draft": draft.path, "data": data.path, "prompts": prompts.len(),
        "parameters": target.model.config().parameter_count(),
        "draft_parameters": draft.model.config().parameter_count(),
        "cost_ratio": cost,
    });
    for (name, temperature) in [("greedy", 0.0), ("sampled", args.temperature)] {
        let sampling = Sampling { temperature, seed: args.seed, ..Sampling::default() };
        let stop = target.tokenizer.stop_ids();
        let generation = Generation { max_new_tokens: args.max_new_tokens, stop, sampling };
        let answers = generate_in_batches(&target.model, &prompts, &generation, ROWS, |_| ControlFlow::Continue(()));
        let answers = answers.map_err(Failure::usage)?.unwrap_or_default();
        let texts: Vec<Vec<Chance>> = prompts
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| !answer.is_empty())
            .map(|(prompt, answer)| chances(&target.model, &draft.model, prompt, answer, temperature))
            .collect();
        report[name] = acceptance(&texts, args, cost);
    }
    report["sampled"]["temperature"] = json!(args.temperature);
    Ok(report)
}

/// How llama.cpp runs the student in `gguf` as its teacher's draft model. `None` where no teacher is known that is still
/// there and has the same tokens.
pub fn llama_server(student: &Source, gguf: &Path) -> Option<String> {
    let teacher = resolve(&student.path).ok()?.manifest?.teacher?.path;
    let tokenizer = source::tokenizer("teacher", Path::new(&teacher)).ok()?;
    tokenizer.check_same(&student.tokenizer).ok()?;
    let (file, hint) = match is_gguf(Path::new(&teacher)) {
        true => (teacher.clone(), String::new()),
        false => {
            ("TEACHER.gguf".to_owned(), format!(", with what `--set export.from={teacher}` writes as TEACHER.gguf"))
        }
    };
    Some(format!("draft: the student helps its teacher in `llama-server -m {file} -md {}`{hint}", gguf.display()))
}

fn acceptance(texts: &[Vec<Chance>], args: &SpeculationArgs, cost: f64) -> Value {
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let acceptance = texts.iter().flatten().map(|chance| chance.of_any).sum::<f64>() / tokens.max(1) as f64;
    let blocks = |draft_tokens: &u16| {
        let draft_tokens = usize::from(*draft_tokens);
        let mut blocks = Blocks::default();
        for text in texts {
            blocks.add(&text.iter().map(|chance| chance.of_this).collect::<Vec<_>>(), draft_tokens);
        }
        let expected = expected_tokens(acceptance, draft_tokens);
        json!({
            "draft_tokens": draft_tokens,
            "accepted_per_block": blocks.accepted_per_block(),
            "tokens_per_block": blocks.tokens_per_block(),
            "expected_tokens_per_block": expected,
            "speed_up": speed_up(blocks.tokens_per_block(), draft_tokens, cost),
            "expected_speed_up": speed_up(expected, draft_tokens, cost),
        })
    };
    json!({
        "tokens": tokens, "acceptance": acceptance,
        "blocks": args.draft_tokens.iter().map(blocks).collect::<Vec<_>>(),
    })
}

/// The first prompts of the data that leave room for an answer.
fn prompts(
    target: &Source,
    draft: &Source,
    data: &DataEntry,
    args: &SpeculationArgs,
) -> Result<Vec<Vec<u32>>, Failure> {
    let context = |model: &Transformer| model.config().max_position_embeddings;
    let context = context(&target.model).min(context(&draft.model));
    let longest = context.saturating_sub(args.max_new_tokens);
    let mut prompts = Vec::new();
    for record in records(std::slice::from_ref(data)).map_err(Failure::usage)? {
        let prompt = prompt(&target.tokenizer, record.map_err(Failure::usage)?, longest)?;
        prompts.extend(prompt.filter(|prompt| (1..=longest).contains(&prompt.len())));
        if prompts.len() == args.prompts {
            return Ok(prompts);
        }
    }
    if prompts.is_empty() {
        return Err(Failure::usage(anyhow!(
            "`{}` has no prompt that leaves `{}` tokens of the context of `{context}`; hint: use a smaller \
             --max-new-tokens, or `--kind chats` for chats",
            data.path,
            args.max_new_tokens
        )));
    }
    Ok(prompts)
}

/// A chat up to its last answer, or the beginning of a document, of which there is always a piece that is short enough.
fn prompt(tokenizer: &Tokenizer, record: Record, longest: usize) -> Result<Option<Vec<u32>>, Failure> {
    match record {
        Record::Chat(messages) => {
            Question::of(messages).map(|question| chat_prompt(tokenizer, &question.context)).transpose()
        }
        Record::Document(text) => {
            let mut tokens = text_prompt(tokenizer, &text)?;
            tokens.truncate((1 + DOCUMENT_TOKENS.min((tokens.len() - 1) / 2)).min(longest));
            Ok(Some(tokens))
        }
    }
}

/// Weights that a pass for one token reads: all but those of an embedding that is no output weight, of which it reads a row.
/// At equal bits a weight, what decoding takes goes by them.
fn weights_read(config: &ModelConfig) -> usize {
    let embedding = if config.tie_word_embeddings { 0 } else { config.vocab_size * config.hidden_size };
    config.parameter_count() - embedding
}

//! `generate`: text from a model.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use limbeck_data::{Message, Role, Tokenizer};
use limbeck_model::{Generation, Sampling};

use crate::device::{self, DeviceChoice};
use crate::failure::{Completion, Failure};
use crate::{output, source};

/// Arguments of `generate`.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// A step directory, a run directory (its newest valid step), a Hugging Face directory, or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// Text to go on from; may be given several times, then all are continued as one batch.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// A user's turn to answer, through the chat template; may be given several times.
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt")]
    pub message: Vec<String>,
    /// A system turn before each `--message`.
    #[arg(long, value_name = "TEXT", requires = "message")]
    pub system: Option<String>,
    /// Tokens at most.
    #[arg(long, default_value_t = 128)]
    pub max_new_tokens: usize,
    /// Divides the logits; 0 takes the most likely token.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Draws among this many tokens only.
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Draws among the tokens that together reach this probability only.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Of the draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
}

/// Prints each prompt's continuation, or each message's answer, to stdout.
///
/// # Errors
/// If the arguments are out of range, the model cannot be loaded, or a prompt is too long.
pub fn run(args: &GenerateArgs) -> Result<Completion, Failure> {
    let sampling = sampling(args)?;
    if args.prompt.is_empty() && args.message.is_empty() {
        return Err(Failure::usage(anyhow!("nothing to generate from; hint: give --prompt or --message")));
    }
    let device = device::open(args.device)?;
    let source = source::open("--from", &args.from, &device)?;
    let tokenizer = &source.tokenizer;
    let prompts: Result<Vec<Vec<u32>>, Failure> = if args.message.is_empty() {
        args.prompt.iter().map(|text| text_prompt(tokenizer, text)).collect()
    } else {
        args.message.iter().map(|text| chat_prompt(tokenizer, &conversation(args.system.as_deref(), text))).collect()
    };
    let generation = Generation { max_new_tokens: args.max_new_tokens, stop: tokenizer.stop_ids(), sampling };
    let answers = limbeck_model::generate(&source.model, &prompts?, &generation, |_, _| ()).map_err(Failure::usage)?;
    for answer in answers {
        output::line(answer_text(tokenizer, &answer)?)?;
    }
    Ok(Completion::Complete { path: None })
}

fn sampling(args: &GenerateArgs) -> Result<Sampling, Failure> {
    let wrong = |option: &str, value: String, rule: &str| Err(Failure::usage(anyhow!("{option} is `{value}`, {rule}")));
    if !args.temperature.is_finite() || args.temperature < 0.0 {
        let rule = "must be a finite number, `0` or more; hint: `0` takes the most likely token, `0.8` is usual";
        return wrong("--temperature", args.temperature.to_string(), rule);
    }
    if args.top_k == Some(0) {
        return wrong("--top-k", "0".to_owned(), "must be at least `1`; hint: leave it out to draw among all tokens");
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        let rule = "must be over `0` and at most `1`; hint: leave it out to draw among all tokens";
        return wrong("--top-p", args.top_p.to_string(), rule);
    }
    Ok(Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed })
}

fn conversation(system: Option<&str>, user: &str) -> Vec<Message> {
    let system = system.map(|text| Message::new(Role::System, text));
    system.into_iter().chain([Message::new(Role::User, user)]).collect()
}

/// A begin-of-text token and the text, as documents begin in training.
pub(crate) fn text_prompt(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Failure> {
    let ids = tokenizer.encode(text).map_err(Failure::usage)?;
    Ok([vec![tokenizer.begin_of_text()], ids].concat())
}

/// The conversation and the words that open the assistant's turn.
///
/// # Errors
/// If the chat template refuses the conversation.
pub fn chat_prompt(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>, Failure> {
    tokenizer.encode_prompt(messages).map_err(Failure::usage)
}

/// The text of an answer, without the token that ended it.
///
/// # Errors
/// If the tokenizer cannot decode it.
pub fn answer_text(tokenizer: &Tokenizer, answer: &[u32]) -> Result<String, Failure> {
    let stop = tokenizer.stop_ids();
    let text: Vec<u32> = answer.iter().copied().take_while(|token| !stop.contains(token)).collect();
    tokenizer.decode(&text).map_err(Failure::run)
}

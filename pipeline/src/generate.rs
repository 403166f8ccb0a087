//! `generate`: text from a model.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use limbeck_data::{Message, Role, Tokenizer};
use limbeck_model::{Generation, Sampling};

use crate::chat::{self, ChatSettings};
use crate::device::{self, DeviceChoice};
use crate::failure::{Completion, Failure};
use crate::output;
use crate::serve::{self, ServeSettings};
use crate::source::{self, Source};

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
    /// A conversation: every line of stdin is a user's turn, its answer goes to stdout as it comes.
    #[arg(long, conflicts_with_all = ["prompt", "message"])]
    pub chat: bool,
    /// Answers OpenAI's chat completions API over HTTP, until Ctrl-C. Requests that do not say otherwise are answered with
    /// the options below.
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:8080",
        conflicts_with_all = ["prompt", "message", "chat"]
    )]
    pub serve: Option<String>,
    /// Of a server: answers that are generated together at most; the others wait.
    #[arg(long, default_value_t = 8, value_name = "ANSWERS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallel: u16,
    /// A system turn before each `--message`, or before the conversation.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["prompt", "serve"])]
    pub system: Option<String>,
    /// Tokens of an answer at most [default: 128; in conversations and for clients what the model's context has room for].
    #[arg(long)]
    pub max_new_tokens: Option<usize>,
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

/// Tokens of a continuation where `--max-new-tokens` is not given.
const MAX_NEW_TOKENS: usize = 128;

/// Prints each prompt's continuation, or each message's answer, to stdout; talks; or serves.
///
/// # Errors
/// If the arguments are out of range, the model cannot be loaded, or a prompt is too long.
pub fn run(args: &GenerateArgs) -> Result<Completion, Failure> {
    let sampling = sampling(args)?;
    if let Some(address) = &args.serve {
        let settings = ServeSettings { parallel: args.parallel.into(), max_new_tokens: room(args)?, sampling };
        // Before the model, which takes its time.
        let listener = serve::listen(address)?;
        return serve::run(listener, open(args)?, &settings);
    }
    if args.chat {
        let settings = ChatSettings { system: args.system.clone(), max_new_tokens: room(args)?, sampling };
        return chat::run(&open(args)?, &settings);
    }
    if args.prompt.is_empty() && args.message.is_empty() {
        return Err(Failure::usage(anyhow!(
            "nothing to generate from; hint: give --prompt or --message, or talk to it with --chat or --serve"
        )));
    }
    print(args, sampling)?;
    Ok(Completion::Complete { path: None })
}

fn open(args: &GenerateArgs) -> Result<Source, Failure> {
    source::open("--from", &args.from, &device::open(args.device)?)
}

/// Tokens of an answer in a conversation.
fn room(args: &GenerateArgs) -> Result<usize, Failure> {
    match args.max_new_tokens {
        Some(0) => Err(Failure::usage(anyhow!(
            "--max-new-tokens is `0`, must be at least `1`; hint: leave it out for what there is room for"
        ))),
        room => Ok(room.unwrap_or(usize::MAX)),
    }
}

fn print(args: &GenerateArgs, sampling: Sampling) -> Result<(), Failure> {
    let source = open(args)?;
    let tokenizer = &source.tokenizer;
    let prompts: Result<Vec<Vec<u32>>, Failure> = if args.message.is_empty() {
        args.prompt.iter().map(|text| text_prompt(tokenizer, text)).collect()
    } else {
        args.message.iter().map(|text| chat_prompt(tokenizer, &conversation(args.system.as_deref(), text))).collect()
    };
    let max_new_tokens = args.max_new_tokens.unwrap_or(MAX_NEW_TOKENS);
    let generation = Generation { max_new_tokens, stop: tokenizer.stop_ids(), sampling };
    let answers = limbeck_model::generate(&source.model, &prompts?, &generation, |_, _| ()).map_err(Failure::usage)?;
    for answer in answers {
        output::line(answer_text(tokenizer, &answer)?)?;
    }
    Ok(())
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

//! `evaluate`: loss, bits per byte and exact answers on held-out data.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use limbeck_config::{DataEntry, DataKind};
use limbeck_data::source::{Record, records};
use limbeck_data::{Message, Mixture, Role, Tokenizer};
use limbeck_model::{Generation, Sampling, Transformer, generate};
use limbeck_train::evaluate;
use serde_json::json;

use crate::device::{self, DeviceChoice};
use crate::failure::{Completion, Failure};
use crate::generate::{answer_text, chat_prompt};
use crate::speculation::{self, SpeculationArgs};
use crate::{output, source, tokenised};

/// Rows of a forward pass at most.
const ROWS: usize = 16;

/// Tokens of a forward pass: fewer rows where they are long, as those of models from elsewhere are.
const TOKENS: usize = 16_384;

/// Tokens that an answer has room for.
const ANSWER_TOKENS: usize = 64;

/// What `--data` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Texts.
    Documents,
    /// Conversations.
    Chats,
}

/// Arguments of `evaluate`.
#[derive(Args, Clone, Debug)]
pub struct EvaluateArgs {
    /// A step directory, a run directory (its newest valid step), a Hugging Face directory, or a GGUF file.
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// A file, a directory or a glob of .parquet, .jsonl or .txt files.
    #[arg(long, value_name = "PATH")]
    pub data: String,
    /// What the files hold.
    #[arg(long, value_enum, default_value = "documents")]
    pub kind: Kind,
    /// Column of the text or of the messages.
    #[arg(long)]
    pub column: Option<String>,
    /// Tokens of a segment; default: the model's `max_position_embeddings`.
    #[arg(long)]
    pub sequence_length: Option<usize>,
    /// Chats: also generates the last answer of this many chats and counts those that are exactly right.
    #[arg(long, value_name = "CHATS")]
    pub answers: Option<usize>,
    /// Directory of the tokenised shards.
    #[arg(long, default_value = "data/cache")]
    pub cache: PathBuf,
    /// What a draft model is worth, instead of the losses.
    #[command(flatten)]
    pub speculation: SpeculationArgs,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
}

/// Prints one JSON object to stdout.
///
/// # Errors
/// If the model or the data cannot be read.
pub fn run(args: &EvaluateArgs) -> Result<Completion, Failure> {
    args.speculation.check()?;
    let device = device::open(args.device)?;
    let source = source::open("--from", &args.from, &device)?;
    let entry = entry(args);
    if let Some(draft) = &args.speculation.draft {
        let draft = source::open("--draft", draft, &device)?;
        output::line(speculation::evaluate(&source, &draft, &entry, &args.speculation)?)?;
        return Ok(Completion::Complete { path: None });
    }
    let sequence_length = args.sequence_length.unwrap_or(source.model.config().max_position_embeddings);
    check_length(sequence_length, source.model.config().max_position_embeddings)?;
    let entries = std::slice::from_ref(&entry);
    let mixture =
        Mixture::open(entries, &source.tokenizer, sequence_length, 0, &args.cache, &|_| ()).map_err(Failure::usage)?;
    tokenised::warn(&mixture);
    let mut result = json!({ "model": source.path, "data": args.data });
    let rows = (TOKENS / sequence_length).clamp(1, ROWS);
    for score in evaluate(&source.model, &mixture, rows, || ()) {
        result["loss_nats"] = json!(score.loss_nats());
        result["bits_per_byte"] = json!(score.bits_per_byte());
        result["target_tokens"] = json!(score.target_tokens);
        result["bytes"] = json!(score.bytes);
    }
    if let Some(limit) = args.answers {
        let answers = exact_answers(&source.model, &source.tokenizer, &entry, limit)?;
        result["answers"] = json!(answers.asked);
        result["exact_answers"] = json!(answers.exact);
    }
    output::line(result)?;
    Ok(Completion::Complete { path: None })
}

/// What `--data` names.
fn entry(args: &EvaluateArgs) -> DataEntry {
    DataEntry {
        path: args.data.clone(),
        kind: match args.kind {
            Kind::Documents => DataKind::Documents,
            Kind::Chats => DataKind::Chats,
        },
        column: args.column.clone(),
        prompt_column: None,
        completion_column: None,
        weight: 1.0,
    }
}

/// # Errors
/// If there are no pairs of tokens, or more than the model was made for.
fn check_length(sequence_length: usize, longest: usize) -> Result<(), Failure> {
    let (rule, hint) = match sequence_length {
        0 | 1 => ("must be at least `2`".to_owned(), "leave it out for the model's own".to_owned()),
        length if length > longest => (format!("must be at most the model's `{longest}`"), format!("use `{longest}`")),
        _ => return Ok(()),
    };
    Err(Failure::usage(anyhow!("--sequence-length is `{sequence_length}`, {rule}; hint: {hint}")))
}

/// How many answers are exactly right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Chats whose last answer was generated.
    pub asked: usize,
    /// Of these, answers equal to the data's, white space at the ends aside.
    pub exact: usize,
    /// The first question with the model's answer.
    pub sample: Option<(String, String)>,
}

/// Generates, greedily, the last answer of the first `limit` chats of `entry` that leave room for one in the model's
/// context.
///
/// # Errors
/// If the data cannot be read.
pub fn exact_answers(
    model: &Transformer,
    tokenizer: &Tokenizer,
    entry: &DataEntry,
    limit: usize,
) -> Result<Answers, Failure> {
    let mut answers = Answers::default();
    let longest = model.config().max_position_embeddings.saturating_sub(ANSWER_TOKENS);
    let mut asked = Vec::new();
    for question in questions(entry)? {
        let prompt = chat_prompt(tokenizer, &question.context)?;
        if prompt.len() <= longest && asked.len() < limit {
            asked.push((question, prompt));
        }
    }
    let generation =
        Generation { max_new_tokens: ANSWER_TOKENS, stop: tokenizer.stop_ids(), sampling: Sampling::default() };
    for asked in asked.chunks(ROWS) {
        let prompts: Vec<Vec<u32>> = asked.iter().map(|(_, prompt)| prompt.clone()).collect();
        let given = generate(model, &prompts, &generation, |_, _| ()).map_err(Failure::run)?;
        for ((question, _), given) in asked.iter().zip(given) {
            let given = answer_text(tokenizer, &given)?;
            answers.asked += 1;
            answers.exact += usize::from(given.trim() == question.answer.trim());
            let turn = || question.context.last().map(|message| message.content.clone()).unwrap_or_default();
            answers.sample.get_or_insert_with(|| (turn(), given.trim().to_owned()));
        }
    }
    Ok(answers)
}

/// A chat up to its last answer.
pub(crate) struct Question {
    pub(crate) context: Vec<Message>,
    answer: String,
}

impl Question {
    /// `None` where the assistant says nothing.
    pub(crate) fn of(mut messages: Vec<Message>) -> Option<Self> {
        messages.truncate(messages.iter().rposition(|message| message.role == Role::Assistant)? + 1);
        let answer = messages.pop().map(|message| message.content).unwrap_or_default();
        Some(Self { context: messages, answer })
    }
}

fn questions(entry: &DataEntry) -> Result<Vec<Question>, Failure> {
    let mut questions = Vec::new();
    for record in records(std::slice::from_ref(entry)).map_err(Failure::usage)? {
        if let Record::Chat(messages) = record.map_err(Failure::usage)? {
            questions.extend(Question::of(messages));
        }
    }
    Ok(questions)
}

//! `distill --generate`: the teacher's answers to the conversations of the training data, for `sft`.

mod header;
mod progress;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use limbeck_checkpoint::{RunDirectory, content_hash, remove, write_atomically, write_atomically_with};
use limbeck_config::{DataKind, GenerateSection, TrainingConfig, TrainingStage, load_training, to_toml};
use limbeck_data::answers::{Answer, answers_to_parquet, fingerprint_prompts, join_answers, prompts};
use limbeck_data::{Message, Role};
use limbeck_model::{Generation, Sampling, fingerprint, generate_in_batches};
use limbeck_train::say;

use self::header::Header;
use self::progress::Progress;
use crate::cli::TrainingArgs;
use crate::failure::{Completion, Failure};
use crate::generate::{answer_text, chat_prompt};
use crate::interrupt::Interrupt;
use crate::source::Source;
use crate::training::run_directory;
use crate::{device, output, source};

/// Batches of a part: what is lost when a process dies.
const BATCHES_PER_PART: usize = 8;
/// What the answers are of.
const HEADER_FILE: &str = "answers.json";
/// All of them.
const ANSWERS_FILE: &str = "answers.parquet";
/// Those that are there while some are missing.
const PARTS_DIRECTORY: &str = "parts";

/// The answers that are being written.
struct Answers {
    source: Source,
    header: Header,
    directory: RunDirectory,
    rows: Progress,
}

/// Writes the answers, part after part; complete, it gives their directory. Parts that are there are kept.
///
/// # Errors
/// Status 2 for everything that is found wrong before the teacher runs, status 1 for what happens after it.
pub fn run(args: &TrainingArgs) -> Result<Completion, Failure> {
    let config =
        load_training(TrainingStage::Distill, &args.config.config, &args.config.set).map_err(Failure::usage)?;
    let section = config.generate.clone().unwrap_or_default();
    let source = teacher(&config, &section, args)?;
    if !config.data.train.iter().any(|entry| entry.kind == DataKind::Chats) {
        return Err(Failure::usage(anyhow!(
            "data.train has no entry with kind = `chats`, --generate answers those; hint: add one"
        )));
    }
    let (count, hash) = fingerprint_prompts(&config.data.train).map_err(Failure::usage)?;
    if args.check {
        output::line(to_toml(&config).map_err(Failure::usage)?)?;
        say!("generate: {count} prompts, {} answers to each", section.samples_per_prompt);
        return Ok(Completion::Complete { path: None });
    }
    let header = Header {
        format_version: 1,
        prompts: hash,
        teacher: fingerprint(&source.model),
        tokenizer: source.tokenizer.hash(),
        seed: config.seed(),
        generate: section,
    };
    let out = args.out.clone().unwrap_or_else(|| run_directory(&config.run.name, "answers"));
    let mut answers = Answers::open(&out, source, header, count).map_err(Failure::usage)?;
    let complete = out.join(ANSWERS_FILE);
    if complete.exists() {
        say!("generate: already complete");
    } else if let Some(signal) = answers.write_parts(&config, count)? {
        return Ok(Completion::Interrupted { signal });
    } else {
        answers.join(&complete).map_err(Failure::run)?;
    }
    remove(&answers.directory.path().join(PARTS_DIRECTORY)).map_err(Failure::run)?;
    Ok(Completion::Complete { path: Some(complete) })
}

/// The model of `teacher.from`. Texts are all that the student gets of it, so its tokenizer may be another one.
fn teacher(config: &TrainingConfig, section: &GenerateSection, args: &TrainingArgs) -> Result<Source, Failure> {
    let from = config.teacher.as_ref().and_then(|teacher| teacher.from.as_ref());
    let missing = || anyhow!("teacher.from is missing, --generate needs it; hint: set it to the model that answers");
    let from = from.ok_or_else(missing).map_err(Failure::usage)?;
    let source = source::open("teacher.from", from, &device::open(args.device)?)?;
    let (longest, limit) = (section.max_new_tokens, source.model.config().max_position_embeddings);
    if longest < limit {
        return Ok(source);
    }
    Err(Failure::usage(anyhow!(
        "generate.max_new_tokens is `{longest}`, must be under max_position_embeddings of teacher.from = `{limit}`; hint: \
         use `{}`, which leaves half for the prompt",
        limit / 2
    )))
}

impl Answers {
    /// Begins the directory, or goes on with it.
    fn open(out: &Path, source: Source, header: Header, count: u64) -> anyhow::Result<Self> {
        let path = out.join(HEADER_FILE);
        let directory = match std::fs::read(&path) {
            Ok(found) => {
                let found = serde_json::from_slice(&found).with_context(|| path.display().to_string())?;
                header.check_same(&path, &found)?;
                RunDirectory::resume(out)?
            }
            Err(_) => {
                let directory = RunDirectory::create(out)?;
                if !files(out)?.is_empty() {
                    let out = out.display();
                    return Err(anyhow!("`{out}` holds files, but no {HEADER_FILE}; hint: give another --out"));
                }
                write_atomically(&path, serde_json::to_string_pretty(&header)? + "\n")?;
                directory
            }
        };
        let rows = Progress::new(count);
        Ok(Self { source, header, directory, rows })
    }

    fn prompts_per_part(&self) -> usize {
        let rows = BATCHES_PER_PART * self.header.generate.batch_size;
        (rows / self.header.generate.samples_per_prompt as usize).max(1)
    }

    fn parts(&self, count: u64) -> usize {
        (count as usize).div_ceil(self.prompts_per_part())
    }

    /// Writes the parts that are not there yet; gives the signal that came instead.
    fn write_parts(&mut self, config: &TrainingConfig, count: u64) -> Result<Option<i32>, Failure> {
        let directory = self.directory.path().join(PARTS_DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(Failure::usage)?;
        let (parts, there) = (self.parts(count), self.there().map_err(Failure::usage)?);
        say!("generate: {count} prompts, {} of {parts} parts to write", parts - there.len().min(parts));
        let interrupt = Interrupt::listen()?;
        let mut prompts = (0..).zip(prompts(&config.data.train).map_err(Failure::usage)?);
        for part in 0..parts {
            let chunk = prompts.by_ref().take(self.prompts_per_part());
            let chunk = chunk.map(|(index, prompt)| prompt.map(|prompt| (index, prompt)));
            let chunk: Vec<(u64, Vec<Message>)> = chunk.collect::<Result<_, _>>().map_err(Failure::run)?;
            let prompts = chunk.len();
            if there.contains_key(&part) {
                self.rows.left -= prompts as u64;
                continue;
            }
            let Some(answers) = self.answer(part, chunk, interrupt)? else { return Ok(interrupt.signal()) };
            let write = || -> anyhow::Result<()> {
                let bytes = answers_to_parquet(&answers, &self.header.teacher, &directory)?;
                // The name is the proof that it is whole.
                Ok(write_atomically(&directory.join(format!("{part:05}-{}.parquet", content_hash(&bytes))), bytes)?)
            };
            write().map_err(Failure::run)?;
            self.rows.prompts += prompts as u64;
        }
        self.rows.close();
        Ok(None)
    }

    /// The parts that are there and whole, by number. Damaged ones are removed, to be written again.
    fn there(&self) -> anyhow::Result<BTreeMap<usize, PathBuf>> {
        let mut there = BTreeMap::new();
        for path in files(&self.directory.path().join(PARTS_DIRECTORY))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let named = name.strip_suffix(".parquet").and_then(|name| name.split_once('-'));
            let Some((Ok(part), hash)) = named.map(|(part, hash)| (part.parse(), hash)) else { continue };
            if content_hash(&std::fs::read(&path)?) == hash {
                there.insert(part, path);
            } else {
                say!("warning: `{}` was damaged, and is written again", path.display());
                std::fs::remove_file(&path)?;
            }
        }
        Ok(there)
    }

    /// Makes one file of the parts.
    fn join(&self, path: &Path) -> anyhow::Result<()> {
        let parts: Vec<PathBuf> = self.there()?.into_values().collect();
        let mut rows = 0;
        write_atomically_with(path, |temporary| {
            rows = join_answers(&parts, temporary)?;
            let nothing = || anyhow!("no answer was finished; hint: raise generate.max_new_tokens");
            (rows > 0).then_some(()).ok_or_else(nothing)
        })?;
        say!("generate: {rows} answers in `{}`", path.display());
        Ok(())
    }

    /// The teacher's answers to some prompts, in their order.
    fn answer(
        &mut self,
        part: usize,
        prompts: Vec<(u64, Vec<Message>)>,
        interrupt: &Interrupt,
    ) -> Result<Option<Vec<Answer>>, Failure> {
        let Source { model, tokenizer, .. } = &self.source;
        let GenerateSection { max_new_tokens, samples_per_prompt, temperature, top_k, top_p, .. } =
            self.header.generate;
        let room = model.config().max_position_embeddings - max_new_tokens;
        let (mut asked, mut inputs) = (Vec::new(), Vec::new());
        for (index, messages) in prompts {
            let tokens = if messages.is_empty() { Vec::new() } else { chat_prompt(tokenizer, &messages)? };
            if messages.is_empty() || tokens.len() > room {
                self.rows.unanswered += 1;
                continue;
            }
            for sample in 0..samples_per_prompt {
                asked.push((index, sample, messages.clone()));
                inputs.push(tokens.clone());
            }
        }
        let sampling = Sampling { temperature, top_k, top_p, seed: self.header.seed }.stream(part as u64);
        let generation = Generation { max_new_tokens, stop: tokenizer.stop_ids(), sampling };
        let rows = &mut self.rows;
        let on_batch = |tokens| {
            rows.batch(tokens);
            if interrupt.signal().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let size = self.header.generate.batch_size;
        let said = generate_in_batches(model, &inputs, &generation, size, on_batch).map_err(Failure::run)?;
        let Some(said) = said else { return Ok(None) };
        let mut answers = Vec::with_capacity(said.len());
        for ((prompt, sample, mut messages), said) in asked.into_iter().zip(said) {
            let finished = said.last().is_some_and(|token| generation.stop.contains(token));
            let text = answer_text(tokenizer, &said)?;
            if text.is_empty() || !finished && !self.header.generate.keep_unfinished {
                self.rows.unfinished += 1;
                continue;
            }
            messages.push(Message::new(Role::Assistant, text));
            answers.push(Answer { messages, prompt, sample, finished });
            self.rows.kept += 1;
        }
        Ok(Some(answers))
    }
}

/// What is in a directory besides what begins with a dot.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

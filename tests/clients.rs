//! What other programs find in our files: a trained Qwen3 and a trained Llama, as a step directory, as an exported Hugging
//! Face directory and as GGUF files, with what we say of each in the `expected*.json` of `tests/reference/check_*.py`.
//!
//! The files stay in `<target>/tmp/clients/<architecture>/`, where `.ci/clients` finds them. Where `LIMBECK_CLIENTS` names
//! a Python that has what `.ci/run` installs, llama.cpp and mlx-lm open them here.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, ensure};
use burn::tensor::Device;
use limbeck_config::Architecture;
use limbeck_data::{Message, Role, Tokenizer};
use limbeck_export::{compare, read_gguf};
use limbeck_model::{Generation, Sampling, Transformer, generate, load_directory, load_parameters};
use serde_json::{Value, json};

use crate::support::numbers::Numbers;
use crate::support::project::{Project, source_root};

/// Greedy tokens a prompt.
const GREEDY_TOKENS: usize = 64;

/// Texts whose tokens are compared.
const TEXTS: usize = 2000;

/// An exported file, and how far a client may be from what we say of it. llama.cpp rounds the activations to the type of
/// the weights, which we do not: for the rounded types `tolerance` is for ties in greedy continuations alone.
struct Export {
    file: &'static str,
    expected: &'static str,
    /// Largest difference of a log-probability.
    tolerance: f64,
    /// Largest KL of a distribution, in nats, in place of it.
    kl_tolerance: Option<f64>,
}

const EXPORTS: [Export; 3] = [
    Export { file: "model-f32.gguf", expected: "expected.json", tolerance: 1e-4, kl_tolerance: None },
    Export { file: "model-f16.gguf", expected: "expected-f16.json", tolerance: 2e-2, kl_tolerance: Some(1e-5) },
    Export { file: "model-q8_0.gguf", expected: "expected-q8_0.json", tolerance: 0.1, kl_tolerance: Some(1e-4) },
];

/// Where an architecture's files are.
struct Files {
    /// Of the project; holds the `expected*.json`.
    root: PathBuf,
    /// The last step of its run.
    step: PathBuf,
    /// What `export-model` wrote.
    export: PathBuf,
}

/// The files of both architectures, made once.
fn files() -> anyhow::Result<&'static [Files]> {
    static FILES: OnceLock<anyhow::Result<Vec<Files>>> = OnceLock::new();
    let make = || [Architecture::Qwen3, Architecture::Llama].into_iter().map(make_files).collect();
    FILES.get_or_init(make).as_ref().map(Vec::as_slice).map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// Trains a small model for as long as its distributions are no longer flat, exports it, and writes what it says.
fn make_files(architecture: Architecture) -> anyhow::Result<Files> {
    // No two axes of one size, and rows of whole Q8_0 blocks. transformers wants whole `hidden_size / heads` of a Llama, even
    // where `head_dim` is another number.
    let (name, shape) = match architecture {
        Architecture::Qwen3 => ("qwen3", [96, 160, 3, 4, 2, 32]),
        Architecture::Llama => ("llama", [128, 224, 2, 8, 2, 32]),
    };
    let project = Project::at(Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name))?;
    let corpus = ["train_documents=600", "valid_documents=20", "train_chats=200", "valid_chats=20"];
    let corpus = corpus.map(|count| format!("corpus.{count}"));
    let keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
    let keys = keys.into_iter().chain(["num_key_value_heads", "head_dim"]);
    let mut model: Vec<String> = keys.zip(shape).map(|(key, size)| format!("model.{key}={size}")).collect();
    model.push(format!("model.architecture={name}"));
    model.push(format!("model.tie_word_embeddings={}", architecture == Architecture::Qwen3));
    model.extend(["train.max_steps=40", "schedule.warmup_steps=5", "train.tokens_per_step=2048"].map(String::from));
    stage(&project, "prepare", &[&corpus[..], &["tokenizer.vocab_size=700".to_owned()]].concat(), &[])?;
    let step = stage(&project, "pretrain", &model, &["--device", "cpu"])?;
    let from = format!("export.from={step}");
    let export = stage(&project, "export-model", &[from], &["--device", "cpu"])?;
    let root = project.root().to_owned();
    let files = Files { step: root.join(step), export: root.join(export), root };
    write_expected(&files)?;
    Ok(files)
}

fn stage(project: &Project, stage: &str, set: &[String], options: &[&str]) -> anyhow::Result<String> {
    let config = format!("configs/tiny/{stage}.toml");
    let mut arguments = vec!["--config", config.as_str()];
    arguments.extend(set.iter().flat_map(|value| ["--set", value.as_str()]));
    arguments.extend(options);
    project.run(stage, &arguments)
}

fn write_expected(files: &Files) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::from_directory(&files.step)?;
    let tokens = token_facts(&tokenizer)?;
    let prompts = prompts(&tokenizer)?;
    for Export { file, expected, tolerance, kl_tolerance } in EXPORTS {
        let model = match kl_tolerance {
            None => load_directory(&files.step, &Device::flex())?,
            Some(_) => read_model(&files.export.join(file))?,
        };
        let mut facts = tokens.clone();
        facts["prompts"] = json!(prompts);
        facts["log_probs_last"] = json!(prompts.iter().map(|prompt| log_probs_last(&model, prompt)).collect::<Vec<_>>());
        facts["greedy"] = json!(greedy(&model, &prompts)?);
        facts["tolerance"] = json!(tolerance);
        if let Some(kl_tolerance) = kl_tolerance {
            facts["kl_tolerance"] = json!(kl_tolerance);
        }
        fs::write(files.root.join(expected), facts.to_string())?;
    }
    Ok(())
}

fn read_model(gguf: &Path) -> anyhow::Result<Transformer> {
    let (config, tensors) = read_gguf(gguf)?;
    Ok(load_parameters(Transformer::zeros(&config, &Device::flex()), tensors)?)
}

/// The last row of the logits of `tokens`.
fn last_logits(model: &Transformer, tokens: &[u32]) -> Vec<f32> {
    let positions: Vec<u32> = (0..tokens.len() as u32).collect();
    let logits = model.logits(tokens, &positions, tokens.len()).into_data().try_to_vec::<f32>().expect("32-bit floats");
    logits[(tokens.len() - 1) * model.config().vocab_size..].to_vec()
}

fn log_probs_last(model: &Transformer, prompt: &[u32]) -> Vec<f64> {
    let logits: Vec<f64> = last_logits(model, prompt).into_iter().map(f64::from).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - largest - log_sum).collect()
}

/// Each prompt on its own, through the cache, whatever tokens come.
fn greedy(model: &Transformer, prompts: &[Vec<u32>]) -> anyhow::Result<Vec<Vec<u32>>> {
    let generation = Generation { max_new_tokens: GREEDY_TOKENS, stop: Vec::new(), sampling: Sampling::default() };
    let rows = prompts.iter().map(|prompt| generate(model, std::slice::from_ref(prompt), &generation, |_, _| ()));
    Ok(rows.collect::<Result<Vec<_>, _>>()?.concat())
}

/// A lone token, a text, a question, and a longer text that ends within a word.
fn prompts(tokenizer: &Tokenizer) -> anyhow::Result<Vec<Vec<u32>>> {
    let begin = tokenizer.begin_of_text();
    let mut prompts = vec![vec![begin]];
    for text in [
        "Casper was a tailor",
        "One Sunday he had 26 coins in his pocket. The wind blew from the north, so the mill turned fast. He wanted a blue \
         flute of bo",
    ] {
        prompts.push([vec![begin], tokenizer.encode(text)?].concat());
    }
    prompts.push(tokenizer.encode_prompt(&[Message::new(Role::User, "What is 18 plus 72?")])?);
    Ok(prompts)
}

/// Texts with their tokens, chats with their rendering.
fn token_facts(tokenizer: &Tokenizer) -> anyhow::Result<Value> {
    let texts = texts();
    let ids = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
    let chats = chats().into_iter().map(|messages| {
        let text = tokenizer.render_chat(&messages, true)?;
        Ok(json!({ "messages": messages, "text": text }))
    });
    Ok(json!({ "texts": texts, "text_ids": ids, "chats": chats.collect::<anyhow::Result<Vec<_>>>()? }))
}

fn chats() -> Vec<Vec<Message>> {
    let user = |text: &str| Message::new(Role::User, text);
    vec![
        vec![user("Where does Petra live?")],
        vec![Message::new(Role::System, "Answer in a few words."), user("  Un café, s'il vous plaît?\n\n")],
        vec![user("Why?\n"), Message::new(Role::Assistant, "Because {{ it }} \"rains\".\n"), user("你好 👋🏽 {% if x %}")],
    ]
}

/// Words, digits, blanks, contractions, punctuation and other scripts in any order, without the text of a special token.
fn texts() -> Vec<String> {
    let pieces: Vec<&str> = "the Tom's I'LL we're 12 3.5 2026 café naïve 你好 мир नमस्ते 😀 👋🏽 -- (x) ' \" _ # ٣ ½ ² <|im_ Ⅷ ΐ ﬁ ̈ \
                             Casper flute coins."
        .split(' ')
        .chain([" ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u{a0}", "\u{3000}", "\u{200d}", "\u{0}", ""])
        .collect();
    let scripts = [(0x20, 0x7f), (0xa1, 0x250), (0x370, 0x500), (0x600, 0x6ff), (0x900, 0x97f), (0x4e00, 0x9fff), (0x1f300, 0x1f600)];
    let mut numbers = Numbers::new(20_261);
    let mut text = |index: usize| -> String {
        let length = 1 + numbers.below(24);
        if index % 2 == 0 {
            return (0..length).map(|_| pieces[numbers.below(pieces.len()) as usize]).collect();
        }
        let mut letter = || {
            let (first, end) = scripts[numbers.below(scripts.len()) as usize];
            char::from_u32(first + numbers.below((end - first) as usize))
        };
        (0..length).filter_map(|_| letter()).collect()
    };
    (0..TEXTS).map(|index| text(index)).collect()
}

/// Runs a check of `tests/reference/` if there is a Python for it.
fn check(script: &str, arguments: &[&OsStr]) -> anyhow::Result<()> {
    let Some(python) = std::env::var_os("LIMBECK_CLIENTS") else { return Ok(()) };
    let script = source_root().join("tests/reference").join(script);
    let output = Command::new(&python).arg(&script).args(arguments).output().context("LIMBECK_CLIENTS")?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}\n{stderr}", script.display(), output.status);
    Ok(())
}

#[test]
fn llama_cpp_agrees_with_the_gguf_files() -> anyhow::Result<()> {
    for files in files()? {
        let directory = files.export.join("hugging-face");
        for Export { file, expected, kl_tolerance, .. } in EXPORTS {
            let (file, expected) = (files.export.join(file), files.root.join(expected));
            let mut arguments = vec![OsStr::new("--gguf"), file.as_os_str(), OsStr::new("--expected")];
            arguments.extend([expected.as_os_str(), OsStr::new("--hugging-face"), directory.as_os_str()]);
            // The control sees exact differences; those of rounded types it would have to weigh.
            arguments.extend(kl_tolerance.is_none().then_some(OsStr::new("--control")));
            check("check_gguf.py", &arguments)?;
        }
    }
    Ok(())
}

#[test]
fn mlx_agrees_with_the_step_and_the_exported_directory() -> anyhow::Result<()> {
    for files in files()? {
        for directory in [&files.step, &files.export.join("hugging-face")] {
            check("check_mlx.py", &[directory.as_os_str(), files.root.join("expected.json").as_os_str()])?;
        }
    }
    Ok(())
}

#[test]
fn exported_models_are_the_step_of_the_run() -> anyhow::Result<()> {
    for files in files()? {
        let step = load_directory(&files.step, &Device::flex())?;
        let exported = [
            (load_directory(&files.export.join("hugging-face"), &Device::flex())?, 0.0),
            (read_model(&files.export.join("model-f32.gguf"))?, 0.0),
            (read_model(&files.export.join("model-f16.gguf"))?, 2e-2),
            (read_model(&files.export.join("model-q8_0.gguf"))?, 0.5),
        ];
        let prompt: Vec<u32> = (0..37).map(|i| (i * 7919) % step.config().vocab_size as u32).collect();
        let reference = last_logits(&step, &prompt);
        for (index, (model, tolerance)) in exported.iter().enumerate() {
            let found = compare(&reference, &last_logits(model, &prompt), reference.len()).relative_error;
            ensure!(found <= *tolerance, "export {index} of `{}` is off by {found}", files.export.display());
        }
    }
    Ok(())
}

/// What the clients compare with is what the model does, by two ways through it, and has something to see.
#[test]
fn expected_values_agree_with_each_other() -> anyhow::Result<()> {
    for files in files()? {
        let facts: Value = serde_json::from_slice(&fs::read(files.root.join("expected.json"))?)?;
        let (prompts, log_probs) = (rows::<u32>(&facts, "prompts")?, rows::<f64>(&facts, "log_probs_last")?);
        let greedy = rows::<u32>(&facts, "greedy")?;
        for ((prompt, log_probs), greedy) in prompts.iter().zip(&log_probs).zip(&greedy) {
            let sum: f64 = log_probs.iter().map(|value| value.exp()).sum();
            ensure!((sum - 1.0).abs() < 1e-9, "probabilities after {prompt:?} sum to {sum}");
            let best = log_probs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(token, _)| token as u32);
            // The one is of the whole pass, the other of the cache.
            ensure!(greedy.len() == GREEDY_TOKENS && best == greedy.first().copied(), "after {prompt:?}: {greedy:?}");
            let uniform = -(log_probs.len() as f64).ln();
            ensure!(log_probs.iter().copied().fold(f64::MIN, f64::max) > uniform + 1.0, "after {prompt:?} it is flat");
        }
        let tokenizer = Tokenizer::from_directory(&files.step)?;
        let texts: Vec<String> = serde_json::from_value(facts["texts"].clone())?;
        for (text, ids) in texts.iter().zip(rows::<u32>(&facts, "text_ids")?) {
            ensure!(tokenizer.decode(&ids)? == *text, "{text:?} comes back otherwise");
        }
    }
    Ok(())
}

fn rows<T: serde::de::DeserializeOwned>(facts: &Value, key: &str) -> anyhow::Result<Vec<Vec<T>>> {
    serde_json::from_value(facts[key].clone()).with_context(|| key.to_owned())
}

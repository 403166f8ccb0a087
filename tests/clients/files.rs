//! Small trained models with everything that clients open, and what we say of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Device;
use limbeck::source::model_at;
use limbeck_data::Tokenizer;
use limbeck_export::{GgufType, write_gguf};
use limbeck_model::{Generation, Sampling, Transformer, generate, load_directory, parameters};
use serde_json::{Value, json};

use super::texts::{TEXTS, prompt_texts, prompts, token_facts};
use crate::support::project::Project;

/// Greedy tokens a prompt.
pub(super) const GREEDY_TOKENS: usize = 64;

/// An exported file, and how far a client may be from what we say of it. llama.cpp rounds the activations to the type of
/// the weights, which we do not: from [`FOR_TIES`] on `tolerance` is for ties in greedy continuations alone.
pub(super) struct Export {
    pub(super) file: &'static str,
    pub(super) expected: &'static str,
    /// Largest difference of a log-probability.
    tolerance: f64,
    /// Largest KL of a distribution, in nats, in place of it.
    pub(super) kl_tolerance: Option<f64>,
}

/// See [`Export`].
const FOR_TIES: f64 = 0.1;

pub(super) const EXPORTS: [Export; 7] = [
    Export { file: "model-f32.gguf", expected: "expected.json", tolerance: 1e-4, kl_tolerance: None },
    Export { file: "model-f16.gguf", expected: "expected-f16.json", tolerance: 2e-2, kl_tolerance: Some(1e-5) },
    Export { file: "model-q8_0.gguf", expected: "expected-q8_0.json", tolerance: 0.2, kl_tolerance: Some(2e-3) },
    Export { file: "model-q6_k.gguf", expected: "expected-q6_k.json", tolerance: 0.4, kl_tolerance: Some(2e-3) },
    Export { file: "model-q5_k_m.gguf", expected: "expected-q5_k_m.json", tolerance: 0.4, kl_tolerance: Some(2e-3) },
    Export { file: "model-q4_k_m.gguf", expected: "expected-q4_k_m.json", tolerance: 0.4, kl_tolerance: Some(2e-3) },
    Export { file: "model-q4_0.gguf", expected: "expected-q4_0.json", tolerance: 0.4, kl_tolerance: Some(2e-3) },
];

/// Directories for MLX. mlx-lm computes in 32 bits too where it is told to, and then agrees about the weights in the
/// directory; `kl_tolerance` is for the 16 bits that it computes in otherwise: a few times what the trained models
/// show.
pub(super) const MLX_EXPORTS: [Export; 2] = [
    Export { file: "mlx-q8", expected: "expected-mlx-q8.json", tolerance: 1e-4, kl_tolerance: Some(1e-3) },
    Export { file: "mlx-q4", expected: "expected-mlx-q4.json", tolerance: 1e-4, kl_tolerance: Some(1e-3) },
];

/// Texts whose tokens are compared again for every other file: its tokenizer is the same.
const FEWER_TEXTS: usize = 200;

/// Where an architecture's files are.
pub(crate) struct Files {
    /// Of the project; holds the `expected*.json`.
    pub(crate) root: PathBuf,
    /// The last step of its run.
    pub(crate) step: PathBuf,
    /// What `export-model` wrote.
    pub(crate) export: PathBuf,
}

impl Files {
    /// Where the weights of a rounded GGUF file are, decoded to 32-bit floats.
    pub(super) fn decoded(&self, file: &str) -> PathBuf {
        self.root.join("decoded").join(file)
    }
}

/// A model that clients open.
struct Trained {
    name: &'static str,
    architecture: &'static str,
    /// `hidden_size` to `head_dim`. No two axes of one size, and rows of whole blocks: of all types for the Llama, of Q8_0 for
    /// the others, whose K-quants fall back.
    shape: [usize; 6],
    /// What it learns from; the embedded world where there is none.
    texts: Option<PathBuf>,
}

/// transformers wants whole `hidden_size / heads` of a Llama, even where `head_dim` is another number; mlx-lm takes it for the
/// width of a Qwen2's heads.
fn trained() -> Vec<Trained> {
    let qwen3 = |name, texts| Trained { name, architecture: "qwen3", shape: [96, 160, 3, 4, 2, 32], texts };
    let llama = |name, texts| Trained { name, architecture: "llama", shape: [256, 768, 2, 8, 2, 64], texts };
    let qwen2 = Trained { name: "qwen2", architecture: "qwen2", shape: [128, 192, 2, 4, 2, 32], texts: None };
    let mut all = vec![qwen3("qwen3", None), llama("llama", None), qwen2];
    if let Some(texts) = std::env::var_os("LIMBECK_TEXTS").map(PathBuf::from) {
        all.extend([qwen3("qwen3-texts", Some(texts.clone())), llama("llama-texts", Some(texts))]);
    }
    all
}

/// The files of all models, made once.
pub(crate) fn files() -> anyhow::Result<&'static [Files]> {
    static FILES: OnceLock<anyhow::Result<Vec<Files>>> = OnceLock::new();
    let make = || trained().into_iter().map(make_files).collect();
    FILES.get_or_init(make).as_ref().map(Vec::as_slice).map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// Trains a small model for as long as its distributions are no longer flat, exports it, and writes what it says.
fn make_files(trained: Trained) -> anyhow::Result<Files> {
    let Trained { name, architecture, shape, texts } = trained;
    let project = Project::at(Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name))?;
    let keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
    let keys = keys.into_iter().chain(["num_key_value_heads", "head_dim"]);
    let mut model: Vec<String> = keys.zip(shape).map(|(key, size)| format!("model.{key}={size}")).collect();
    model.push(format!("model.architecture={architecture}"));
    model.push(format!("model.tie_word_embeddings={}", architecture == "qwen3"));
    model.extend(["schedule.warmup_steps=10", "train.tokens_per_step=1024"].map(String::from));
    let mut export = Vec::new();
    let data = match texts {
        None => {
            let corpus = ["train_documents=600", "valid_documents=20", "train_chats=200", "valid_chats=20"];
            let corpus = corpus.map(|count| format!("corpus.{count}"));
            stage(&project, "prepare", &[&corpus[..], &["tokenizer.vocab_size=700".to_owned()]].concat(), &[])?;
            model.push("train.max_steps=120".to_owned());
            "[{path=\"data/tiny/train.parquet\"}]".to_owned()
        }
        Some(texts) => {
            let data = format!("[{{path={:?}}}]", texts.display().to_string());
            let (train, path) = (format!("data.train={data}"), "tokenizer.path=data/tiny/tokenizer");
            let set = ["--set", &train, "--set", path, "--set", "tokenizer.vocab_size=2000"];
            project.run("prepare", &[&["--config", "configs/books/prepare.toml"][..], &set].concat())?;
            model.extend([train, "data.valid=[]".to_owned(), "train.eval_every=".to_owned()]);
            // Fewer, and a greedy continuation repeats a few words.
            model.push("train.max_steps=2500".to_owned());
            export.push("data.valid=[]".to_owned());
            data
        }
    };
    let step = stage(&project, "pretrain", &model, &["--device", "cpu"])?;
    let from = format!("export.from={step}");
    let formats = "hugging_face gguf_f32 gguf_f16 gguf_q8_0 gguf_q6_k gguf_q5_k_m gguf_q4_k_m gguf_q4_0 mlx_q8 mlx_q4";
    let formats = format!("export.formats={:?}", formats.split(' ').collect::<Vec<_>>());
    export.extend([from, formats]);
    if architecture == "llama" {
        // Q4_0 and K-quants by an importance matrix: other blocks, of the same format.
        export.push(format!("export.importance={{data={data}, calibration_tokens=4096}}"));
    }
    let export = stage(&project, "export-model", &export, &["--device", "cpu"])?;
    let root = project.root().to_owned();
    let files = Files { step: root.join(step), export: root.join(export), root };
    write_expected(&files)?;
    Ok(files)
}

/// A model that ends its turns, with a context of 512 tokens.
pub(super) fn chat_model() -> anyhow::Result<PathBuf> {
    let project = Project::at(Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients/server"))?;
    let set = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let corpus = ["train_documents=600", "valid_documents=20", "train_chats=2000", "valid_chats=20"];
    let corpus = corpus.map(|count| format!("corpus.{count}"));
    stage(&project, "prepare", &[&corpus[..], &set(&["tokenizer.vocab_size=700"])].concat(), &[])?;
    let short =
        set(&["data.sequence_length=512", "train.tokens_per_step=1024", "schedule.warmup_steps=10", "data.valid=[]"]);
    let shape = set(&["model.hidden_size=96", "model.intermediate_size=160", "model.num_hidden_layers=2"]);
    let steps = set(&["train.eval_every=", "train.max_steps=60"]);
    stage(&project, "pretrain", &[&short[..], &shape, &steps].concat(), &["--device", "cpu"])?;
    let steps = set(&["train.eval_every=", "train.max_steps=150"]);
    let step = stage(&project, "sft", &[&short[..], &steps].concat(), &["--device", "cpu"])?;
    Ok(project.root().join(step))
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
    let prompts = prompts(&tokenizer)?;
    for Export { file, expected, tolerance, kl_tolerance } in EXPORTS.iter().chain(&MLX_EXPORTS) {
        let (model, texts) = match kl_tolerance {
            None => (load_directory(&files.step, &Device::flex())?, TEXTS),
            Some(_) => (read_model(&files.export.join(file))?, FEWER_TEXTS),
        };
        let mut facts = facts(&model, token_facts(&tokenizer, texts)?, &prompts, *tolerance, *kl_tolerance);
        let greedy = greedy(&model, &prompts)?;
        let ends = tokenizer.stop_ids();
        let until_end = |ids: &Vec<u32>| ids.iter().copied().take_while(|id| !ends.contains(id)).collect::<Vec<_>>();
        let texts = greedy.iter().map(|ids| tokenizer.decode(&until_end(ids))).collect::<Result<Vec<_>, _>>()?;
        facts["prompt_texts"] = json!(prompt_texts(&tokenizer)?);
        facts["greedy"] = json!(greedy);
        facts["greedy_texts"] = json!(texts);
        facts["both_tolerances"] = json!(*tolerance < FOR_TIES);
        fs::write(files.root.join(expected), facts.to_string())?;
        if kl_tolerance.is_some() && file.ends_with(".gguf") {
            fs::create_dir_all(files.root.join("decoded"))?;
            write_gguf(&files.decoded(file), model.config(), &parameters(&model), &files.step, GgufType::F32)?;
        }
    }
    Ok(())
}

/// `tokens` with what the model says after the prompts, and how far others may be from it.
pub(super) fn facts(
    model: &Transformer,
    tokens: Value,
    prompts: &[Vec<u32>],
    tolerance: f64,
    kl_tolerance: Option<f64>,
) -> Value {
    let mut facts = tokens;
    facts["prompts"] = json!(prompts);
    facts["log_probs_last"] = json!(prompts.iter().map(|prompt| log_probs_last(model, prompt)).collect::<Vec<_>>());
    facts["tolerance"] = json!(tolerance);
    if let Some(kl_tolerance) = kl_tolerance {
        facts["kl_tolerance"] = json!(kl_tolerance);
    }
    facts
}

pub(super) fn read_model(gguf: &Path) -> anyhow::Result<Transformer> {
    model_at(gguf, &Device::flex())
}

/// The last row of the logits of `tokens`.
pub(super) fn last_logits(model: &Transformer, tokens: &[u32]) -> Vec<f32> {
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

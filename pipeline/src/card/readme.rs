//! `README.md`, in the form of the Hugging Face Hub.

use std::fmt::Write as _;
use std::path::Path;

use limbeck_config::{Architecture, ExportFormat};
use limbeck_train::MetricsRow;

use super::lineage::{Ancestor, lineage};
use super::tables::columns;
use super::{Card, MODELFILE, Row};
use crate::fit::{self, Container, Device, PJ_PER_FLOP};
use crate::gap::{GAP_FILE, Gap};
use crate::source::Source;

/// The whole card.
pub(super) fn text(card: &Card, source: &Source, has_modelfile: bool) -> String {
    let mut text = front_matter(card);
    text += &heading(card);
    text += "\n## How to run it\n\nPaths are those of the export: this directory, or the one above `hugging-face`.\n";
    text += &how_to_run(card, source, has_modelfile);
    let ancestors = lineage(&source.parent);
    text += &lineage_section(&ancestors);
    text += &scores(source).unwrap_or_default();
    text += &losses(card);
    text += &devices(card);
    text
}

fn front_matter(card: &Card) -> String {
    let mut text = String::from("---\n");
    if let Some(license) = &card.config.export.license {
        let _ = writeln!(text, "license: {license}");
    }
    text += "library_name: transformers\npipeline_tag: text-generation\n";
    let _ = writeln!(text, "tags:\n- limbeck\n- {}", architecture(card));
    if card.recommended().is_some() {
        text += "- gguf\n";
    }
    text + "---\n"
}

fn architecture(card: &Card) -> &'static str {
    match card.shape.architecture {
        Architecture::Qwen3 => "qwen3",
        Architecture::Llama => "llama",
        Architecture::Qwen2 => "qwen2",
    }
}

fn heading(card: &Card) -> String {
    let shape = card.shape;
    format!(
        "\n# {}\n\nA decoder of {} parameters in the layout of {}: blocks {}, hidden size {}, feed-forward {}, query heads {}, \
         key-value heads {}, head size {}, vocabulary {}, {} embeddings, sequences of up to {} tokens. Made with Limbeck.\n",
        card.config.run.name,
        shape.parameter_count(),
        architecture(card),
        shape.num_hidden_layers,
        shape.hidden_size,
        shape.intermediate_size,
        shape.num_attention_heads,
        shape.num_key_value_heads,
        shape.head_dim,
        shape.vocab_size,
        if shape.tie_word_embeddings { "tied" } else { "untied" },
        shape.max_position_embeddings,
    )
}

fn how_to_run(card: &Card, source: &Source, has_modelfile: bool) -> String {
    let mut text = String::new();
    let chats = source.tokenizer.chat_template().is_some();
    let context = card.shape.max_position_embeddings;
    if let Some(Row { file, .. }) = card.recommended() {
        let file = file.path.display();
        let more = if chats { "" } else { " -no-cnv -p \"Once upon a time\"" };
        let _ = write!(text, "\nllama.cpp:\n\n```bash\nllama-cli -m {file} -c {context}{more}\n");
        let _ = write!(text, "llama-server -m {file} -c {context}\n```\n");
    }
    if has_modelfile {
        let name = card.config.run.name.to_lowercase();
        let _ = write!(text, "\nOllama:\n\n```bash\nollama create {name} -f {MODELFILE}\nollama run {name}\n```\n");
    }
    let hugging_face = card.rows.iter().find(|row| row.format == ExportFormat::HuggingFace);
    if let Some(Row { file, .. }) = hugging_face {
        let directory = file.path.display().to_string();
        text += &transformers(&directory, chats);
    }
    let for_mlx = card.rows.iter().find(|row| matches!(fit::container(row.format), Container::Mlx(_)));
    if let Some(Row { file, .. }) = for_mlx.or(hugging_face) {
        let directory = file.path.display();
        let _ = write!(
            text,
            "\nMLX, on a Mac:\n\n```bash\nmlx_lm.generate --model {directory} --prompt \"Hello\" --max-tokens 64\n```\n"
        );
    }
    text
}

fn transformers(directory: &str, chats: bool) -> String {
    let inputs = match chats {
        true => {
            "messages = [{\"role\": \"user\", \"content\": \"Hello\"}]\n\
             inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors=\"pt\", return_dict=True)\n"
        }
        false => "inputs = tokenizer(\"Once upon a time\", return_tensors=\"pt\")\n",
    };
    format!(
        "\ntransformers:\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
         tokenizer = AutoTokenizer.from_pretrained(\"{directory}\")\n\
         model = AutoModelForCausalLM.from_pretrained(\"{directory}\")\n{inputs}\
         output = model.generate(**inputs, max_new_tokens=64)\n\
         print(tokenizer.decode(output[0][inputs[\"input_ids\"].shape[1]:], skip_special_tokens=True))\n```\n"
    )
}

fn lineage_section(ancestors: &[Ancestor]) -> String {
    let mut text = String::from("\n## Lineage\n\n| | model | stage | steps | tokens | seed | BLAKE3 |\n");
    text += &columns(7);
    for (number, Ancestor { role, model, manifest }) in ancestors.iter().enumerate() {
        let made = manifest
            .as_ref()
            .map_or("not on disk as it was, or made elsewhere | – | – | –".to_owned(), |manifest| {
                format!("{} | {} | {} | {}", manifest.stage, manifest.step, manifest.tokens_seen, manifest.seed)
            });
        let _ = writeln!(text, "| {} | {role}: {} | {made} | `{}` |", number + 1, model.path, model.hash);
    }
    text += "\nThe hash is that of the model's `manifest.json`, which has those of its files; without one, of its weights.\n";
    let data = ancestors.iter().enumerate().filter_map(|(number, ancestor)| {
        let manifest = ancestor.manifest.as_ref()?;
        Some(format!("| {} | `{}` | `{}` |\n", number + 1, manifest.data_fingerprint, manifest.config_hash))
    });
    let data: String = data.collect();
    if !data.is_empty() {
        let _ = write!(text, "\n| | training data, tokenised and in its order | config |\n{}{data}", columns(3));
    }
    text
}

/// Those of the run that the model is from: its gap report, or its last evaluation.
fn scores(source: &Source) -> Option<String> {
    let run = source.path.parent()?;
    let text = gap_scores(run, source).or_else(|| last_evaluation(run, source))?;
    Some(format!("\n## Scores on held-out data\n\n{text}"))
}

fn gap_scores(run: &Path, source: &Source) -> Option<String> {
    let gap: Gap = serde_json::from_str(&std::fs::read_to_string(run.join(GAP_FILE)).ok()?).ok()?;
    if gap.student.path != source.path.display().to_string() {
        return None;
    }
    let mut text = format!("| model | parameters | nats/token | bits/byte | KL to the teacher |\n{}", columns(5));
    let twins = gap.twins.iter().map(|twin| (twin.control.title().to_owned(), &twin.arm));
    let arms = gap.teacher.iter().map(|teacher| ("teacher".to_owned(), teacher));
    for (name, arm) in arms.chain([("this model".to_owned(), &gap.student)]).chain(twins) {
        let scores = &arm.comparison;
        let kl = scores.kl_nats.map_or("–".to_owned(), |kl| format!("{kl:.4}"));
        let (nats, bits) = (scores.loss_nats, scores.bits_per_byte);
        let _ = writeln!(text, "| {name} | {} | {nats:.4} | {bits:.4} | {kl} |", arm.parameters);
    }
    let _ = writeln!(text, "\n{} targets of {}.", gap.student.comparison.target_tokens, gap.data.join(", "));
    Some(text)
}

fn last_evaluation(run: &Path, source: &Source) -> Option<String> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).ok()?;
    let rows = text.lines().filter_map(|line| serde_json::from_str::<MetricsRow>(line).ok());
    let step = source.path.file_name()?.to_str()?.strip_prefix("step-")?.parse::<u64>().ok()?;
    let row = rows.rev().find(|row| row.step == step)?;
    let (nats, bits) = row.valid_loss_nats.zip(row.valid_bits_per_byte)?;
    Some(format!("{nats:.4} nats a token, {bits:.4} bits a byte.\n"))
}

fn losses(card: &Card) -> String {
    let Some((table, held_out)) = card.loss_table().zip(card.record.held_out.as_ref()) else { return String::new() };
    format!(
        "\n## What each format loses\n\n{table}\n{} targets of {}, each file opened again and its weights computed with in 32 \
         bits. llama.cpp rounds activations to 8 bits besides, in files of quantised weights.\n",
        held_out.checkpoint.target_tokens,
        held_out.data.join(", "),
    )
}

fn devices(card: &Card) -> String {
    let mut text = format!(
        "\n## On devices\n\nAt a context of {} tokens. Resident are weights, cache, activations and 30 MB for the program; a \
         token reads all weights and the cache.\n\n{}",
        card.context,
        card.memory_table()
    );
    text += "\nTokens a second, expected and the bound that the device's memory sets; joules of a token, with their class; ";
    text += &limits(card);
    let _ = write!(text, "\n\n{}", card.speed_table());
    let _ = write!(
        text,
        "\nAll of this is computed from the shape, for one sequence at a time. Energy is an estimate, of memory and arithmetic \
         alone ({PJ_PER_FLOP} pJ an operation; Horowitz, ISSCC 2014), where a whole device takes several times as much. \
         Classes: A under 1 mJ, B under 10, C under 100, D under 1 J, E from there on.\n\n"
    );
    for Device { title, peak_gb_per_s, sustained_gb_per_s, memory_pj_per_bit, source, .. } in &card.devices {
        let _ = writeln!(
            text,
            "* {title}: {peak_gb_per_s:.1} GB/s at most, {sustained_gb_per_s:.1} seen, {memory_pj_per_bit:.0} pJ a bit. {source}."
        );
    }
    text
}

fn limits(card: &Card) -> String {
    if !card.budget.is_given() {
        return "whether it fits into half (tight: 60 %) of the device's memory.".to_owned();
    }
    let mut limits = vec![format!("context {}", card.context)];
    limits.extend(card.budget.memory_bytes.map(|bytes| format!("memory {}", super::tables::bytes(bytes))));
    limits.extend(card.budget.latency_s.map(|seconds| format!("{} ms a token", super::tables::digits(1e3 * seconds))));
    format!("whether it fits into the budget: {}.", limits.join(", "))
}

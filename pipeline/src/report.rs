//! The report at the end of the chain.

use std::fmt::Write as _;
use std::path::Path;

use limbeck_checkpoint::write_atomically;
use limbeck_config::{CorpusSection, DataEntry, DataKind, ExportConfig, PrepareConfig, TrainingConfig, load};
use limbeck_data::Mixture;
use limbeck_data::world::{Floor, Split, World};
use limbeck_train::{Score, evaluate};

use crate::chain::{ChainArgs, Pair};
use crate::evaluate::{Answers, exact_answers};
use crate::failure::Failure;
use crate::training::run_directory;
use crate::{card, device, export_model, output, source, tokenised};

/// Chats whose answer is generated and compared.
const QUESTIONS: usize = 200;

/// One model's scores: one for each held-out entry.
struct Row {
    name: String,
    parameters: usize,
    scores: Vec<Score>,
    answers: Answers,
}

/// Prints the report to stdout and writes it to `checkpoints/<run.name>/report.md`.
///
/// # Errors
/// If a model or the data cannot be read.
pub fn print(args: &ChainArgs, config: &TrainingConfig, pairs: &[Pair]) -> Result<(), Failure> {
    let device = device::open(args.device)?;
    let mut rows = Vec::new();
    let mut row = |name: String, path: &Path| -> Result<(), Failure> {
        let source = source::open("report", path, &device)?;
        let valid: Mixture = tokenised::open(config, &config.data.valid, &source.tokenizer)?;
        let scores = evaluate(&source.model, &valid, config.rows_per_step(), || ());
        let chats = config.data.valid.iter().find(|entry| entry.kind == DataKind::Chats);
        let answers = match chats {
            Some(entry) => exact_answers(&source.model, &source.tokenizer, entry, QUESTIONS)?,
            None => Answers::default(),
        };
        rows.push(Row { name, parameters: source.model.config().parameter_count(), scores, answers });
        Ok(())
    };
    if let Some(teacher) = config.teacher.as_ref().and_then(|teacher| teacher.from.as_ref()) {
        row("teacher".to_owned(), teacher)?;
    }
    for pair in pairs {
        row(format!("student, cross-entropy alone (seed {})", pair.seed), &pair.control)?;
        row(format!("student, distilled (seed {})", pair.seed), &pair.student)?;
    }
    let mut text = table(&config.data.valid, &rows);
    if let Some(floors) = floors(args)? {
        let _ = writeln!(text, "\nA perfect model of the embedded world reaches {floors}.");
    }
    text += &verdict(&rows);
    text += &exports(args)?;
    if let Some((question, answer)) = rows.last().and_then(|row| row.answers.sample.clone()) {
        let _ =
            writeln!(text, "\nA held-out question, and the distilled student's answer:\n\n> {question}\n\n{answer}");
    }
    let directory = run_directory(&config.run.name, "");
    let _ = writeln!(text, "\nEverything is in `{}`.", directory.display());
    write_atomically(&directory.join("report.md"), &text).map_err(Failure::run)?;
    output::line(text)
}

fn table(entries: &[DataEntry], rows: &[Row]) -> String {
    let mut text = String::from("| model | parameters |");
    for entry in entries {
        let _ = write!(text, " {}: nats/token | bits/byte |", name(entry));
    }
    text += " exact answers |\n|---|---|";
    text += &"---|---|".repeat(entries.len());
    text += "---|\n";
    for row in rows {
        let _ = write!(text, "| {} | {} |", row.name, row.parameters);
        for score in &row.scores {
            let _ = write!(text, " {:.4} | {:.4} |", score.loss_nats(), score.bits_per_byte());
        }
        let _ = writeln!(text, " {} of {} |", row.answers.exact, row.answers.asked);
    }
    text
}

fn name(entry: &DataEntry) -> &'static str {
    match entry.kind {
        DataKind::Documents => "documents",
        DataKind::Chats => "chats",
    }
}

/// In how many pairs the distilled student is better on all held-out tokens together, and by how much.
fn verdict(rows: &[Row]) -> String {
    let total = |row: &Row| Score::total(&row.scores).loss_nats();
    let students: Vec<&Row> = rows.iter().filter(|row| row.name.starts_with("student")).collect();
    let margins: Vec<f64> = students.chunks_exact(2).map(|pair| total(pair[0]) - total(pair[1])).collect();
    let better = margins.iter().filter(|margin| **margin > 0.0).count();
    let mean = margins.iter().sum::<f64>() / margins.len().max(1) as f64;
    format!(
        "\nThe distilled student is better than its cross-entropy twin in {better} of {} seeds, by {mean:.4} nats a \
         held-out token on average.\n",
        margins.len()
    )
}

/// What a perfect model reaches on the held-out splits of the embedded world; `None` for other corpora.
fn floors(args: &ChainArgs) -> Result<Option<String>, Failure> {
    let config: PrepareConfig = load(&args.config("prepare"), &[]).map_err(Failure::usage)?;
    let Some(CorpusSection::Tiny { valid_documents, valid_chats, .. }) = config.corpus else { return Ok(None) };
    let world = World::new(config.run.seed);
    let (mut documents, mut chats) = (Floor::default(), Floor::default());
    world
        .documents(Split::Valid, valid_documents)
        .for_each(|document| documents.add(document.nats, document.text.len()));
    world.chats(Split::Valid, valid_chats).for_each(|chat| chats.add(chat.nats, chat.target_bytes()));
    Ok(Some(format!(
        "{:.4} bits/byte on the documents and {:.4} on the chats",
        documents.bits_per_byte(),
        chats.bits_per_byte()
    )))
}

fn exports(args: &ChainArgs) -> Result<String, Failure> {
    let config: ExportConfig = load(&args.config("export-model"), &[]).map_err(Failure::usage)?;
    let directory = run_directory(&config.run.name, "export");
    let Some(record) = export_model::record(&directory)? else { return Ok(String::new()) };
    let mut text = String::from("\n| exported | bytes | KL to the checkpoint | bits/byte |\n|---|---|---|---|\n");
    for file in record.files.values() {
        let path = directory.join(&file.path);
        // On held-out data, or else on the probe.
        let kl = file.held_out.and_then(|held_out| held_out.kl_nats).map_or(file.kl_nats, |kl| kl.max(0.0));
        let bits = file.held_out.map_or("–".to_owned(), |held_out| format!("{:.4}", held_out.bits_per_byte));
        let _ = writeln!(text, "| `{}` | {} | {kl:.1e} nats | {bits} |", path.display(), file.bytes);
    }
    let _ = writeln!(
        text,
        "\nThe model card, with sizes and speeds on devices, is `{}`.",
        directory.join(card::README).display()
    );
    Ok(text)
}

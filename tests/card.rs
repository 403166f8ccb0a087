//! The model card says what is true, and names what is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use limbeck_data::{Message, Role, Tokenizer};
use serde_json::Value;

use crate::clients::files;
use crate::support::sandbox::{EXPORT, Sandbox};

/// Held-out data of one kind.
const DOCUMENTS: &str = r#"data.valid=[{path="data/tiny/valid.parquet"}]"#;

/// An export of the distilled student in three formats.
fn exported(arguments: &[&str]) -> anyhow::Result<(Sandbox, String)> {
    let sandbox = Sandbox::after(&["pretrain", "sft", "distill"])?;
    let formats = r#"export.formats=["hugging_face", "gguf_f32", "gguf_q8_0"]"#;
    let outcome = sandbox.stage("export-model", &[&["--set", formats][..], arguments].concat())?;
    let stderr = outcome.stderr.clone();
    outcome.complete()?;
    Ok((sandbox, stderr))
}

/// Hashes and numbers that depend on the processor, replaced: those with a decimal point, and hexadecimal ones of 64 digits.
fn stable(text: &str) -> String {
    let mut stable = String::new();
    let mut word = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() || letter == '.' || (letter == '-' && word.ends_with('e')) {
            word.push(letter);
            continue;
        }
        let is_hash = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_number = word.contains('.') && word.trim_end_matches('.').parse::<f64>().is_ok();
        stable += match (is_hash, is_number) {
            (true, _) => "[hash]",
            (_, true) => "[number]",
            _ => &word,
        };
        word.clear();
        stable.push(letter);
    }
    stable.trim_end().to_owned()
}

#[test]
fn the_card_of_a_small_export() -> anyhow::Result<()> {
    let (sandbox, stderr) = exported(&["--budget", "memory=64MB,latency=5ms,context=40"])?;
    let text = sandbox.read(&format!("{EXPORT}/README.md"))?;
    assert_eq!(
        text,
        sandbox.read(&format!("{EXPORT}/hugging-face/README.md"))?,
        "it is the same for the directory alone"
    );
    insta::assert_snapshot!("model_card", stable(&text));
    insta::assert_snapshot!("modelfile", sandbox.read(&format!("{EXPORT}/Modelfile"))?);
    for fragment in ["device card, 40 tokens of context", "Raspberry Pi 5", "fits", "KL, nats/token"] {
        assert!(stderr.contains(fragment), "`{fragment}` is not in:\n{stderr}");
    }
    Ok(())
}

/// Paths that the card or the Modelfile gives to a command or a function.
fn named_files(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            if ["-m", "-f", "--model", "FROM"].contains(&pair[0]) {
                names.insert(pair[1].to_owned());
            }
        }
        names.extend(
            line.split("from_pretrained(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned),
        );
        if line.starts_with('|') {
            let quoted = line.split('`').skip(1).step_by(2).filter(|name| name.starts_with("model-"));
            names.extend(quoted.map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_file_that_the_card_names_is_there() -> anyhow::Result<()> {
    for files in files()? {
        let read = |name: &str| std::fs::read_to_string(files.export.join(name));
        let names = named_files(&(read("README.md")? + &read("Modelfile")?));
        // Seven GGUF files, one of them as Ollama names it, two directories, the Modelfile.
        assert_eq!(names.len(), 7 + 1 + 2 + 1, "{names:?}");
        for name in names {
            ensure!(files.export.join(&name).exists(), "`{name}` is not in `{}`", files.export.display());
        }
    }
    Ok(())
}

/// The commands of the ```` ```bash ```` blocks.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```bash\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// Of the programs that the card names one comes from a Python package that CI installs: that command runs as it stands, and the
/// Python is Python. The others' options are few, and old.
#[test]
fn the_commands_of_the_card_run_where_their_programs_are() -> anyhow::Result<()> {
    let known = ["llama-cli -m ", "llama-server -m ", "ollama create ", "ollama run ", "mlx_lm.generate --model "];
    for files in files()? {
        let text = std::fs::read_to_string(files.export.join("README.md"))?;
        let commands = commands(&text);
        assert_eq!(commands.len(), known.len());
        for (command, known) in commands.iter().zip(known) {
            ensure!(command.starts_with(known), "`{command}` is not one of `{known}`");
        }
        let Some(python) = std::env::var_os("LIMBECK_CLIENTS") else { continue };
        let programs = Path::new(&python).parent().context("a Python has a directory")?;
        let (_, arguments) = commands[4].split_once(' ').context("a command with arguments")?;
        let line = format!("\"$0\" {arguments}");
        let output = Command::new("bash")
            .args(["-c", &line])
            .arg(programs.join("mlx_lm.generate"))
            .current_dir(&files.export)
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {stderr}", commands[4]);
        let code =
            text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).context("a block of Python")?;
        let check = Command::new(&python).args(["-c", "import ast, sys; ast.parse(sys.argv[1])", code]).output()?;
        ensure!(check.status.success(), "{}\n{code}", String::from_utf8_lossy(&check.stderr));
    }
    Ok(())
}

/// Ollama's template, by hand: a turn for each message, then the end.
fn rendered(template: &str, messages: &[Message]) -> Option<String> {
    let (before, rest) = template.split_once("{{- range .Messages }}")?;
    let (turn, after) = rest.split_once("{{ end }}")?;
    let turns = messages
        .iter()
        .map(|message| turn.replace("{{ .Role }}", message.role.name()).replace("{{ .Content }}", &message.content));
    Some(before.to_owned() + &turns.collect::<String>() + after)
}

#[test]
fn the_modelfile_renders_chats_as_the_model_learnt_them() -> anyhow::Result<()> {
    let turn = |role, content: &str| Message::new(role, content.to_owned());
    let messages = [
        turn(Role::System, "Answer in one word."),
        turn(Role::User, "What is\n2 plus 3?"),
        turn(Role::Assistant, "5"),
        turn(Role::User, "And 4?"),
    ];
    for files in files()? {
        let tokenizer = Tokenizer::from_directory(&files.step)?;
        let modelfile = std::fs::read_to_string(files.export.join("Modelfile"))?;
        let template = modelfile.split("\"\"\"").nth(1).context("a template in three quotes")?;
        for count in [1, 2, 4] {
            let found = rendered(template, &messages[..count]).context("a range over the messages")?;
            assert_eq!(found, tokenizer.render_chat(&messages[..count], true)?);
        }
        for id in tokenizer.stop_ids() {
            let token = tokenizer.token(id).context("stop ids are tokens")?;
            ensure!(modelfile.contains(&format!("PARAMETER stop \"{token}\"\n")), "{token}: {modelfile}");
        }
    }
    Ok(())
}

#[test]
fn the_loss_of_a_format_is_what_evaluate_finds() -> anyhow::Result<()> {
    let (sandbox, _) = exported(&["--set", r#"export.formats.3="gguf_q4_0""#, "--set", DOCUMENTS])?;
    let record: Value = serde_json::from_str(&sandbox.read(&format!("{EXPORT}/export.json"))?)?;
    let number = |value: &Value| value.as_f64().with_context(|| format!("{value} is no number"));
    for (name, path) in
        [("gguf_f32", "model-f32.gguf"), ("gguf_q8_0", "model-q8_0.gguf"), ("gguf_q4_0", "model-q4_0.gguf")]
    {
        let from = format!("{EXPORT}/{path}");
        let found = sandbox.run("evaluate", &["--from", &from, "--data", "data/tiny/valid.parquet"])?.complete()?;
        let found: Value = serde_json::from_str(&found)?;
        let said = &record["files"][name]["held_out"];
        let (said, found) = (number(&said["bits_per_byte"])?, number(&found["bits_per_byte"])?);
        // Sums of batches of other sizes, in 32 bits.
        assert!((said - found).abs() < 1e-6 * found, "{name}: {said} against {found}");
    }
    let kl = |name: &str| number(&record["files"][name]["held_out"]["kl_nats"]);
    // Rows of 14 values are no whole blocks, so that these are 16-bit floats both.
    assert!(kl("gguf_f32")?.abs() < 1e-6 && kl("hugging_face")?.abs() < 1e-6);
    assert!(kl("gguf_q8_0")? < 1e-4 && kl("gguf_q4_0")? < 1e-4);
    assert_eq!(
        record["held_out"]["checkpoint"]["bits_per_byte"], record["files"]["gguf_f32"]["held_out"]["bits_per_byte"],
        "32-bit floats lose nothing"
    );
    Ok(())
}

#[test]
fn coarser_grids_lose_more() -> anyhow::Result<()> {
    let files =
        files()?.iter().find(|files| files.export.to_string_lossy().contains("llama")).context("of whole blocks")?;
    let record: Value = serde_json::from_slice(&std::fs::read(files.export.join("export.json"))?)?;
    let kl = |name: &str| record["files"][name]["held_out"]["kl_nats"].as_f64().context(name.to_owned());
    let order = ["gguf_f32", "gguf_f16", "gguf_q8_0", "gguf_q6_k", "gguf_q5_k_m", "gguf_q4_k_m", "gguf_q4_0"];
    let losses = order.into_iter().map(kl).collect::<anyhow::Result<Vec<f64>>>()?;
    assert!(losses.is_sorted() && losses[6] > 10.0 * losses[2], "{losses:?}");
    Ok(())
}

#[test]
fn a_card_that_is_there_is_left_and_shown_for_another_budget() -> anyhow::Result<()> {
    let (sandbox, _) = exported(&[])?;
    let path = format!("{EXPORT}/README.md");
    sandbox.write(&path, "edited")?;
    let again = |budget: &str| {
        let formats = r#"export.formats=["hugging_face", "gguf_f32", "gguf_q8_0"]"#;
        sandbox.stage("export-model", &["--set", formats, "--budget", budget])
    };
    let outcome = again("memory=20MB")?;
    outcome.says(&["already complete", "does not fit (memory)"])?;
    outcome.complete()?;
    assert_eq!(sandbox.read(&path)?, "edited");
    // Longer than the 48 tokens that the model was made for.
    again("context=4096")?.says(&["does not fit (context)"])?;
    again("memroy=1GB")?.refused(2, &["--budget", "`memroy` is not a key of a budget", "did you mean `memory`"])
}

//! The stages take them wherever they take a model.

use anyhow::ensure;
use limbeck_data::Tokenizer;
use serde_json::Value;

use super::{TEACHERS, path};
use crate::support::files::copy;
use crate::support::sandbox::Sandbox;

/// A sandbox with a teacher in its directory.
fn with_teacher(name: &str) -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::prepared()?;
    if path(name).is_dir() {
        copy(&path(name), &sandbox.path(name))?;
    } else {
        std::fs::copy(path(name), sandbox.path(name))?;
    }
    Ok(sandbox)
}

fn manifest(sandbox: &Sandbox, step: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&sandbox.read(&format!("{step}/manifest.json"))?)?)
}

#[test]
fn a_student_with_the_teachers_tokenizer_learns_online_and_from_captured_logits() -> anyhow::Result<()> {
    for name in TEACHERS {
        let sandbox = with_teacher(name)?;
        let (tokenizer, from) = (format!("data.tokenizer={name}"), format!("teacher.from={name}"));
        let student = ["--set", &tokenizer, "--set", &from];
        let step = sandbox.stage("distill", &student)?.complete()?;
        assert_eq!(manifest(&sandbox, &step)?["teacher"]["path"], *name);
        let tokenizer_of_student = Tokenizer::load(sandbox.path(&step))?;
        tokenizer_of_student.check_same(
            &limbeck::source::tokenizer("a", &path(name)).map_err(|failure| anyhow::anyhow!("{failure}"))?,
        )?;

        let cache = ["--set", "teacher.logits=cache", "--set", "capture.codec.kind=full"];
        sandbox.stage("distill", &[&student[..], &cache, &["--capture"]].concat())?.complete()?;
        let logits =
            ["--set", &tokenizer, "--set", "teacher.from=", "--set", "teacher.logits=cache", "--out", "cached"];
        let cached = sandbox.stage("distill", &logits)?.complete()?;
        let weights = |step: &str| std::fs::read(sandbox.path(step).join("model.safetensors"));
        assert_eq!(weights(&cached)?, weights(&step)?, "{name}: the cache is of this teacher");
    }
    Ok(())
}

#[test]
fn training_starts_from_them_and_goes_on_after_an_interruption() -> anyhow::Result<()> {
    for name in TEACHERS {
        let sandbox = with_teacher(name)?;
        let from = format!("start.from={name}");
        let step = sandbox.stage("sft", &["--set", &from])?.complete()?;
        assert_eq!(manifest(&sandbox, &step)?["parent"]["path"], *name);
        let before = std::fs::read(sandbox.path(&step).join("model.safetensors"))?;
        std::fs::remove_dir_all(sandbox.path(&step))?;
        assert_eq!(sandbox.stage("sft", &["--set", &from, "--resume"])?.complete()?, step);
        assert_eq!(std::fs::read(sandbox.path(&step).join("model.safetensors"))?, before, "{name}");
    }
    Ok(())
}

#[test]
fn they_are_generated_from_evaluated_and_exported() -> anyhow::Result<()> {
    for name in TEACHERS {
        let sandbox = with_teacher(name)?;
        let prompt = ["--from", name, "--prompt", "the cat", "--max-new-tokens", "5"];
        let text = sandbox.run("generate", &prompt)?.complete()?;
        let message = ["--from", name, "--message", "the cat", "--max-new-tokens", "5"];
        sandbox.run("generate", &message)?.complete()?;
        let data = ["--data", "data/tiny/valid.parquet", "--sequence-length", "48"];
        let score = sandbox.run("evaluate", &[&["--from", name][..], &data].concat())?.complete()?;

        let out = ["--out", "exported", "--set", &format!("export.from={name}")];
        let formats = r#"export.formats=["hugging_face", "gguf_f32"]"#;
        sandbox.stage("export-model", &[&out[..], &["--set", formats]].concat())?.complete()?;
        assert_eq!(
            crate::support::files::names(&sandbox.path("exported"))?,
            ["Modelfile", "README.md", "export.json", "hugging-face", "model-f32.gguf"]
        );
        for exported in ["exported/hugging-face", "exported/model-f32.gguf"] {
            let again = [&["--from", exported][..], &prompt[2..]].concat();
            assert_eq!(sandbox.run("generate", &again)?.complete()?, text, "{exported} of {name}");
            let again = sandbox.run("evaluate", &[&["--from", exported][..], &data].concat())?.complete()?;
            let loss =
                |json: &str| -> anyhow::Result<Value> { Ok(serde_json::from_str::<Value>(json)?["loss_nats"].clone()) };
            assert_eq!(loss(&again)?, loss(&score)?, "{exported} of {name}");
        }
    }
    Ok(())
}

#[test]
fn another_file_at_the_teachers_path_is_noticed() -> anyhow::Result<()> {
    let sandbox = with_teacher("mixed.gguf")?;
    let student = ["--set", "data.tokenizer=mixed.gguf", "--set", "teacher.from=mixed.gguf"];
    sandbox.stage("distill", &student)?.complete()?;
    // The last byte of a norm.
    let mut bytes = std::fs::read(sandbox.path("mixed.gguf"))?;
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    sandbox.write("mixed.gguf", bytes)?;
    let resumed = sandbox.stage("distill", &[&student[..], &["--resume"]].concat())?;
    ensure!(resumed.status == 2, "{resumed:?}");
    resumed.says(&["--resume: the teacher is not the one that"])
}

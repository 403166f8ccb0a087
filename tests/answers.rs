//! Conversations that the teacher answers, for `sft`.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use limbeck_config::{DataEntry, DataKind};
use limbeck_data::source::{Record, Records};
use limbeck_data::{Message, Role};

use crate::support::files::{damage, hashes, names};
use crate::support::interruption::signal;
use crate::support::outcome::Outcome;
use crate::support::sandbox::{SFT, Sandbox};

const ANSWERS: &str = "checkpoints/trial/answers";
const FILE: &str = "checkpoints/trial/answers/answers.parquet";
/// Short enough for the sandbox's models, in several parts of a few batches.
const SHORT: [&str; 2] = ["generate.max_new_tokens=9", "generate.batch_size=3"];

/// `distill --generate` with overrides.
fn generate(sandbox: &Sandbox, arguments: &[&str], sets: &[&str]) -> anyhow::Result<Outcome> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    sandbox
        .stage("distill", &["--generate"].into_iter().chain(arguments.iter().copied()).chain(sets).collect::<Vec<_>>())
}

/// A teacher that ends some of its answers.
fn sandbox() -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::prepared()?;
    let long = ["--set", "train.max_steps=80", "--set", "optimizer.learning_rate=1e-2", "--set", "train.save_every=80"];
    for stage in ["pretrain", "sft"] {
        sandbox.stage(stage, &long)?.complete()?;
    }
    Ok(sandbox)
}

fn chats(sandbox: &Sandbox, file: &str) -> anyhow::Result<Vec<Vec<Message>>> {
    let path = sandbox.path(file).display().to_string();
    let (column, prompt_column, completion_column) = (None, None, None);
    let entry = DataEntry { path, kind: DataKind::Chats, column, prompt_column, completion_column, weight: 1.0 };
    let messages = |record| match record {
        Record::Chat(messages) => messages,
        Record::Document(_) => Vec::new(),
    };
    Ok(Records::open(&sandbox.path(file), &entry)?.map(|record| record.map(messages)).collect::<Result<_, _>>()?)
}

#[test]
fn sft_learns_from_what_the_teacher_wrote() -> anyhow::Result<()> {
    let sandbox = sandbox()?;
    let outcome = generate(&sandbox, &[], &SHORT)?;
    outcome.says(&[" parts to write", "generate: ", " answers, "])?;
    assert_eq!(outcome.complete()?, FILE);
    assert_eq!(names(&sandbox.path(ANSWERS))?, [".lock", "answers.json", "answers.parquet"]);
    let (asked, answered) = (chats(&sandbox, "data/tiny/chats-train.parquet")?, chats(&sandbox, FILE)?);
    let asked: Vec<&[Message]> = asked
        .iter()
        .map(|chat| &chat[..chat.iter().position(|message| message.role == Role::Assistant).unwrap_or(0)])
        .collect();
    assert!(!answered.is_empty() && answered.len() < asked.len(), "{} of {}", answered.len(), asked.len());
    for answer in &answered {
        let (answer, prompt) = answer.split_last().context("not empty")?;
        assert_eq!(answer.role, Role::Assistant);
        assert!(asked.contains(&prompt), "{prompt:?}");
    }
    // What another command says to the same questions.
    let alone = answered.iter().filter(|chat| chat.len() == 2 && !chat[1].content.contains('\n')).take(4);
    for chat in alone {
        let arguments = ["--from", SFT, "--message", &chat[0].content, "--max-new-tokens", "9"];
        assert_eq!(sandbox.run("generate", &arguments)?.complete()?, chat[1].content.trim_end());
    }
    let data = format!("data.train=[{{path=\"{FILE}\", kind=\"chats\"}}]");
    sandbox.stage("sft", &["--out", "taught", "--set", &data])?.complete()?;
    // Again: nothing is left to do.
    let before = hashes(&sandbox.path(ANSWERS))?;
    generate(&sandbox, &[], &SHORT)?.says(&["generate: already complete"])?;
    assert_eq!(hashes(&sandbox.path(ANSWERS))?, before);
    Ok(())
}

#[test]
fn answers_that_were_cut_off_are_kept_only_when_asked_for() -> anyhow::Result<()> {
    let sandbox = sandbox()?;
    let count = |out: &str, sets: &[&str]| -> anyhow::Result<usize> {
        let path = generate(&sandbox, &["--out", out], &[&SHORT[..], sets].concat())?.complete()?;
        Ok(chats(&sandbox, &path)?.len())
    };
    let (finished, all) = (count("finished", &[])?, count("all", &["generate.keep_unfinished=true"])?);
    assert!(0 < finished && finished < all, "{finished} {all}");
    let sampled = ["generate.keep_unfinished=true", "generate.temperature=0.7", "generate.samples_per_prompt=3"];
    assert!(count("sampled", &sampled)? > 2 * all);
    let none = generate(&sandbox, &["--out", "none"], &["generate.max_new_tokens=1"])?;
    none.refused(1, &["no answer was finished", "hint: raise generate.max_new_tokens"])
}

const LONG_PATH: [&str; 7] = [
    "--generate",
    "--set",
    "generate.max_new_tokens=9",
    "--set",
    "generate.batch_size=3",
    "--set",
    "generate.keep_unfinished=true",
];

fn parts(sandbox: &Sandbox) -> usize {
    names(&sandbox.path(ANSWERS).join("parts")).unwrap_or_default().iter().filter(|name| !name.starts_with('.')).count()
}

fn whole(sandbox: &Sandbox) -> anyhow::Result<BTreeMap<String, String>> {
    sandbox.stage("distill", &[&LONG_PATH[..], &["--out", "whole"]].concat())?.complete()?;
    hashes(&sandbox.path("whole"))
}

#[test]
fn generations_killed_at_any_time_end_as_the_uninterrupted_one() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let whole = whole(&sandbox)?;
    let mut kills = 0;
    for attempt in 0..5 {
        let mut command = sandbox.stage_command("distill", &LONG_PATH);
        let killed = signal(&mut command, "KILL", || parts(&sandbox) > attempt)?;
        kills += usize::from(killed.is_some_and(|outcome| outcome.status == 137));
    }
    assert!(kills > 1, "{kills}");
    // A part that was damaged since is written again.
    let directory = sandbox.path(ANSWERS).join("parts");
    if let Some(name) = names(&directory)?.into_iter().find(|name| !name.starts_with('.')) {
        damage(&directory.join(&name))?;
        sandbox.stage("distill", &LONG_PATH)?.says(&["warning: `", &name, "was damaged, and is written again"])?;
    }
    sandbox.stage("distill", &LONG_PATH)?.complete()?;
    assert_eq!(hashes(&sandbox.path(ANSWERS))?, whole);
    Ok(())
}

#[test]
fn a_signal_ends_a_generation_and_its_command_goes_on() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let whole = whole(&sandbox)?;
    for _ in 0..20 {
        let stopped = signal(&mut sandbox.stage_command("distill", &LONG_PATH), "TERM", || parts(&sandbox) > 0)?;
        match stopped {
            Some(outcome) if outcome.status == 143 => {
                assert_eq!(outcome.stdout, "");
                let command = outcome.stderr.lines().find_map(|line| line.split_once("go on with: "));
                let Some((_, command)) = command else { bail!("no command: {}", outcome.stderr) };
                assert_eq!(sandbox.bash(command)?.complete()?, FILE);
                assert_eq!(hashes(&sandbox.path(ANSWERS))?, whole);
                return Ok(());
            }
            _ => std::fs::remove_dir_all(sandbox.path(ANSWERS))?,
        }
    }
    bail!("never in time")
}

#[test]
fn a_generation_says_what_it_lacks() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let refused = |arguments: &[&str], sets: &[&str], fragments: &[&str]| -> anyhow::Result<()> {
        generate(&sandbox, arguments, &[&SHORT[..], sets].concat())?.refused(2, fragments)
    };
    refused(&[], &["teacher={logits=\"x\"}"], &["teacher.from is missing, --generate needs it; hint: "])?;
    let documents = "data.train=[{path=\"data/tiny/train.parquet\"}]";
    refused(&[], &[documents], &["data.train has no entry with kind = `chats`", "hint: "])?;
    let long = "generate.max_new_tokens=48";
    let limit =
        ["generate.max_new_tokens is `48`, must be under max_position_embeddings of teacher.from = `48`", "hint: "];
    refused(&[], &[long], &limit)?;
    refused(&["--capture"], &[], &["--capture"])?;
    refused(&["--control"], &[], &["--control"])?;
    assert_eq!(hashes(&sandbox.path(ANSWERS))?.len(), 0);
    generate(&sandbox, &["--check"], &SHORT)?.says(&["generate: ", " prompts, 1 answers to each"])?;
    generate(&sandbox, &[], &[&SHORT[..], &["generate.keep_unfinished=true"]].concat())?.complete()?;
    let before = hashes(&sandbox.path(ANSWERS))?;
    let other = ["generate.keep_unfinished=true", "generate.temperature=0.5"];
    let fragments = ["answers.json` has generate.temperature `0.0`, must be `0.5`; hint: "];
    refused(&[], &other, &fragments)?;
    let teacher = ["generate.keep_unfinished=true", "teacher.from=checkpoints/trial/teacher"];
    refused(&[], &teacher, &["answers.json` has teacher `\"", "hint: "])?;
    assert_eq!(hashes(&sandbox.path(ANSWERS))?, before);
    sandbox.write("full/notes.txt", "mine")?;
    refused(&["--out", "full"], &[], &["`full` holds files, but no answers.json; hint: give another --out"])
}

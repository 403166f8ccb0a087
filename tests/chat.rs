//! `generate --chat`: what goes in by stdin comes out as answers.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::server::{CONTEXT, MODEL, serve, with_model};
use crate::support::interruption::send;
use crate::support::outcome::Outcome;
use crate::support::sandbox::{Sandbox, TEACHER};

/// A conversation through pipes.
fn chat(sandbox: &Sandbox, arguments: &[&str], turns: &str) -> anyhow::Result<Outcome> {
    let mut child = command(sandbox, arguments).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(turns.as_bytes())?;
    Outcome::from_output(child.wait_with_output()?)
}

fn command(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command("generate");
    command.arg("--chat").args(arguments).stdin(Stdio::piped());
    command
}

#[test]
fn every_line_is_answered_with_all_that_was_said_before() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let options = ["--from", MODEL, "--max-new-tokens", "30"];
    let turns = ["Where is Petra?", "And  why? 你好 👋🏽", "Ah."];
    let piped =
        chat(&sandbox, &[&options[..], &["--system", "Be brief."]].concat(), &turns.join("\n\n"))?.complete()?;

    // The same conversation over HTTP, where every request says all of it.
    let server = serve(&sandbox, &["--max-new-tokens", "30"])?;
    let mut messages = vec![json!({ "role": "system", "content": "Be brief." })];
    let mut expected = String::new();
    for turn in turns {
        messages.push(json!({ "role": "user", "content": turn }));
        let message = server.chat(&json!({ "messages": messages }))?.json()?["choices"][0]["message"].clone();
        let content = message["content"].as_str().context("content")?.to_owned();
        expected += &content;
        expected += "\n";
        messages.push(json!({ "role": "assistant", "content": content }));
    }
    assert_eq!(piped, expected.trim_end());
    let without = chat(&sandbox, &options, &turns.join("\n"))?.complete()?;
    assert_ne!(without, piped, "the system turn is part of it");
    let first = sandbox.run("generate", &[&options[..], &["--message", turns[0]]].concat())?.complete()?;
    ensure!(without.starts_with(&first), "`--message` gives {first}, the first answer of {without}");
    Ok(())
}

#[test]
fn draws_depend_on_the_seed_and_differ_from_turn_to_turn() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    let options = ["--from", MODEL, "--max-new-tokens", "20", "--temperature", "1", "--seed"];
    let said = |seed: &str, turns: &str| chat(&sandbox, &[&options[..], &[seed]].concat(), turns)?.complete();
    let first = said("3", "Why?")?;
    assert_eq!(said("3", "Why?")?, first);
    assert_ne!(said("4", "Why?")?, first);
    Ok(())
}

#[test]
fn turns_that_no_longer_fit_are_dropped_and_that_is_said() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let chat = |turns: &str| chat(&sandbox, &["--from", TEACHER, "--max-new-tokens", "12"], turns);
    // A context of 48 tokens, of which 12 are for the answer.
    let outcome = chat("a\nb\nc\nd\n")?;
    outcome.says(&["context: the oldest 2 turns were dropped"])?;
    outcome.complete()?;
    chat("a\n")?.complete()?;
    let outcome = chat(&format!("{}\n", "word and ".repeat(40)))?;
    outcome.refused(2, &["the turn has `", "must have at most `36` of the model's context of `48`", "hint: shorten it"])
}

#[test]
fn an_end_of_input_ends_it_and_what_is_no_text_is_refused() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    assert_eq!(chat(&sandbox, &["--from", MODEL], "")?.complete()?, "");
    assert_eq!(chat(&sandbox, &["--from", MODEL], "\n  \n")?.complete()?, "");
    let mut child = command(&sandbox, &["--from", MODEL]).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(b"caf\xe9\n")?;
    Outcome::from_output(child.wait_with_output()?)?.refused(2, &["not UTF-8", "hint: "])?;
    chat(&sandbox, &["--from", MODEL, "--max-new-tokens", "0"], "a\n")?.refused(2, &["--max-new-tokens is `0`"])?;
    let both = ["--from", MODEL, "--message", "a"];
    chat(&sandbox, &both, "")?.refused(2, &["cannot be used with"])
}

#[test]
fn a_signal_stops_the_answer_and_in_a_pipe_the_conversation() -> anyhow::Result<()> {
    let sandbox = with_model()?;
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let mut child = command(&sandbox, &["--from", MODEL]).spawn()?;
        let mut turns = child.stdin.take().context("stdin is piped")?;
        turns.write_all(b"Why?\nAnd why?\n")?;
        let mut answer = BufReader::new(child.stdout.take().context("stdout is piped")?);
        // It speaks as it goes.
        ensure!(!answer.fill_buf()?.is_empty(), "it says nothing");
        send(&child, signal)?;
        let said = answer.lines().collect::<Result<Vec<_>, _>>()?.join("\n");
        assert_eq!(child.wait()?.code(), Some(status));
        ensure!(said.len() < CONTEXT, "it stopped before its {} bytes were said", said.len());
    }
    Ok(())
}

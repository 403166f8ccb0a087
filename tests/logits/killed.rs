//! Captures that end early, and captures that share the work.

use anyhow::bail;

use super::{CACHE, distill};
use crate::support::files::{hashes, names};
use crate::support::interruption::signal;
use crate::support::sandbox::Sandbox;

const CAPTURE: [&str; 3] = ["--capture", "--set", CACHE];

/// With a corpus of several parts.
fn sandbox() -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::with_configs()?;
    sandbox.stage("prepare", &["--set", "corpus.train_documents=1500"])?.complete()?;
    for stage in ["pretrain", "sft"] {
        sandbox.stage(stage, &[])?.complete()?;
    }
    Ok(sandbox)
}

fn parts(sandbox: &Sandbox) -> usize {
    let names = names(&sandbox.path("cache/parts")).unwrap_or_default();
    names.iter().filter(|name| name.ends_with(".parquet")).count()
}

/// The same capture in another directory, from beginning to end.
fn whole(sandbox: &Sandbox) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
    distill(sandbox, &["--capture"], &["teacher.logits=whole"])?.complete()?;
    hashes(&sandbox.path("whole"))
}

#[test]
fn captures_killed_at_any_time_end_as_the_uninterrupted_one() -> anyhow::Result<()> {
    let sandbox = sandbox()?;
    let whole = whole(&sandbox)?;
    assert!(whole.len() > 4, "cache.json and several parts: {whole:?}");
    let mut kills = 0;
    for _ in 0..40 {
        let before = parts(&sandbox);
        let killed = signal(&mut sandbox.stage_command("distill", &CAPTURE), "KILL", || parts(&sandbox) > before)?;
        kills += usize::from(killed.is_some_and(|outcome| outcome.status == 137));
        if parts(&sandbox) + 1 >= whole.len() {
            break;
        }
    }
    assert!(kills > 1, "{kills}");
    sandbox.stage("distill", &CAPTURE)?.complete()?;
    assert_eq!(hashes(&sandbox.path("cache"))?, whole);
    Ok(())
}

#[test]
fn a_signal_ends_a_capture_and_its_command_goes_on() -> anyhow::Result<()> {
    let sandbox = sandbox()?;
    let whole = whole(&sandbox)?;
    for _ in 0..40 {
        let stopped = signal(&mut sandbox.stage_command("distill", &CAPTURE), "TERM", || parts(&sandbox) > 0)?;
        match stopped {
            Some(outcome) if outcome.status == 143 => {
                assert_eq!(outcome.stdout, "");
                let command = outcome.stderr.lines().find_map(|line| line.split_once("go on with: "));
                let Some((_, command)) = command else { bail!("no command: {}", outcome.stderr) };
                assert_eq!(sandbox.bash(command)?.complete()?, "cache");
                assert_eq!(hashes(&sandbox.path("cache"))?, whole);
                return Ok(());
            }
            _ => std::fs::remove_dir_all(sandbox.path("cache"))?,
        }
    }
    bail!("never in time")
}

#[test]
fn shards_of_three_processes_make_the_cache_of_one() -> anyhow::Result<()> {
    let sandbox = sandbox()?;
    let whole = whole(&sandbox)?;
    let mut children = Vec::new();
    for shard in ["2/3", "0/3", "1/3"] {
        children.push(sandbox.stage_command("distill", &[&CAPTURE[..], &["--shard", shard]].concat()).spawn()?);
    }
    for child in children {
        let output = child.wait_with_output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(hashes(&sandbox.path("cache"))?, whole);
    Ok(())
}

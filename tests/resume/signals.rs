//! Ctrl-C and SIGTERM.

use anyhow::{Context, bail};
use limbeck_checkpoint::verify;

use super::stages::{STEPS, Stage, assert_equal, stages};
use crate::support::files::names;
use crate::support::interruption::{signal, steps_logged};
use crate::support::outcome::Outcome;
use crate::support::sandbox::Sandbox;

/// Interrupts a run on its way, again until it was in time; gives its directory and what it said.
fn interrupted(sandbox: &Sandbox, stage: &Stage, name: &str, more: &[&str]) -> anyhow::Result<(String, Outcome)> {
    for attempt in 0..40 {
        let run = format!("runs/{}-{name}-{attempt}", stage.name());
        let is_time = || steps_logged(sandbox, &run) >= 7;
        let outcome = signal(&mut stage.command(sandbox, &run, more), name, is_time)?;
        match outcome {
            Some(outcome) if outcome.status != 0 => return Ok((run, outcome)),
            _ => {}
        }
    }
    bail!("{} was never interrupted by {name}", stage.name())
}

/// The command after `go on with: `.
fn resuming_command(outcome: &Outcome) -> anyhow::Result<&str> {
    let line = outcome.stderr.lines().find_map(|line| line.split_once("go on with: "));
    Ok(line.context("no resuming command")?.1)
}

#[test]
fn a_signal_finishes_the_step_saves_it_and_names_the_command_that_goes_on() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    for stage in stages() {
        let whole = stage.uninterrupted(&sandbox)?;
        for (name, status) in [("INT", 130), ("TERM", 143)] {
            let (run, outcome) = interrupted(&sandbox, &stage, name, &[])?;
            assert_eq!((outcome.status, outcome.stdout.as_str()), (status, ""), "{outcome:?}");
            let step = names(&sandbox.path(&run))?.into_iter().rfind(|name| name.starts_with("step-"));
            let step = step.context("a step was saved")?;
            let manifest = verify(&sandbox.path(&run).join(&step))?;
            assert!(!manifest.complete);
            // The last row is the last step's.
            assert_eq!(steps_logged(&sandbox, &run) as u64, manifest.step);

            let resumed = sandbox.bash(resuming_command(&outcome)?)?;
            resumed.says(&[&format!("resuming from `{run}/{step}`")])?;
            assert_eq!(resumed.complete()?, format!("{run}/step-{STEPS:08}"));
            assert_equal(&sandbox, &run, &whole)?;
        }
    }
    Ok(())
}

#[test]
fn the_command_that_goes_on_is_good_for_odd_paths_and_a_second_interruption() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let [pretrain, ..] = stages();
    let whole = pretrain.uninterrupted(&sandbox)?;
    let (run, first) = interrupted(&sandbox, &pretrain, "TERM", &["--set", "data.cache=it's a $cache"])?;
    let command = resuming_command(&first)?;
    assert!(command.contains(r"'data.cache=it'\''s a $cache' --resume"), "{command}");

    // Interrupted once more, when it was resumed from a given step: not from there again, but from what it saved.
    let step = names(&sandbox.path(&run))?.into_iter().rfind(|name| name.starts_with("step-"));
    let step = format!("{run}/{}", step.context("a step was saved")?);
    for resume in [vec!["--resume", &step], vec![&format!("--resume={step}")]] {
        let arguments = [&["--set", "data.cache=it's a $cache"][..], &resume].concat();
        let mut command = pretrain.command(&sandbox, &run, &arguments);
        let logged = steps_logged(&sandbox, &run);
        let Some(again) = signal(&mut command, "INT", || steps_logged(&sandbox, &run) > logged)? else { continue };
        if again.status == 130 {
            let command = resuming_command(&again)?;
            assert!(command.ends_with(" --resume") && !command.contains(&step), "{command}");
        }
    }
    let resumed = sandbox.bash(command)?;
    resumed.says(&[&format!("resuming from `{run}/step-")])?;
    resumed.complete()?;
    // The cache is part of the config, and so of the manifest; the weights are the same.
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let bytes = |run: &str| std::fs::read(sandbox.path(run).join(format!("step-{STEPS:08}")).join(file));
        assert_eq!(bytes(&run)?, bytes(&whole)?);
    }
    Ok(())
}

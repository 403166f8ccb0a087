//! SIGKILL, in a step and in a save.

use anyhow::bail;

use super::stages::{STEPS, Stage, assert_equal, stages};
use crate::support::interruption::{is_saving, signal, steps_logged};
use crate::support::sandbox::Sandbox;

/// 128 and the number of SIGKILL.
const KILLED: i32 = 137;

/// Kills a run at `is_time`, again until `caught`, and gives its directory.
fn killed(
    sandbox: &Sandbox,
    stage: &Stage,
    name: &str,
    is_time: impl Fn(&str) -> bool,
    caught: impl Fn(&str) -> bool,
) -> anyhow::Result<String> {
    for attempt in 0..40 {
        let run = format!("runs/{}-{name}-{attempt}", stage.name());
        let outcome = signal(&mut stage.command(sandbox, &run, &[]), "KILL", || is_time(&run))?;
        if outcome.is_some_and(|outcome| outcome.status == KILLED) && caught(&run) {
            return Ok(run);
        }
    }
    bail!("{} was never caught {name}", stage.name())
}

fn is_unfinished(sandbox: &Sandbox, run: &str) -> bool {
    !sandbox.path(run).join(format!("step-{STEPS:08}")).exists()
}

#[test]
fn a_run_killed_after_any_step_ends_as_the_uninterrupted_one() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    for stage in stages() {
        let whole = stage.uninterrupted(&sandbox)?;
        // Before the first save, after it, and late.
        for step in [2, 7, 26] {
            let is_time = |run: &str| steps_logged(&sandbox, run) >= step;
            let caught = |run: &str| is_unfinished(&sandbox, run);
            let run = killed(&sandbox, &stage, &format!("at-step-{step}"), is_time, caught)?;
            let resumed = stage.resumed(&sandbox, &run)?;
            if step > 5 {
                resumed.says(&[&format!("resuming from `{run}/step-")])?;
            }
            assert_eq!(resumed.complete()?, format!("{run}/step-{STEPS:08}"));
            assert_equal(&sandbox, &run, &whole)?;
        }
    }
    Ok(())
}

#[test]
fn a_run_killed_while_it_saves_ends_as_the_uninterrupted_one() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    for stage in stages() {
        let whole = stage.uninterrupted(&sandbox)?;
        let is_time = |run: &str| is_saving(&sandbox, run);
        let run = killed(&sandbox, &stage, "while-saving", is_time, is_time)?;
        stage.resumed(&sandbox, &run)?.complete()?;
        assert_equal(&sandbox, &run, &whole)?;
    }
    Ok(())
}

#[test]
fn a_run_killed_many_times_ends_as_the_uninterrupted_one() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let [stage, ..] = stages();
    let whole = stage.uninterrupted(&sandbox)?;
    let run = "runs/many-times";
    for step in [1, 6, 11, 16, 21, 26, 31] {
        let mut command = stage.command(&sandbox, run, &["--resume"]);
        signal(&mut command, "KILL", || steps_logged(&sandbox, run) > step)?;
    }
    stage.resumed(&sandbox, run)?.complete()?;
    assert_equal(&sandbox, run, &whole)
}

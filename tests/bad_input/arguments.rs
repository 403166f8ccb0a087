//! Command lines.

use crate::support::sandbox::{COMMANDS, Sandbox, TEACHER};

#[test]
fn usage_errors_end_with_status_2() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    for command in COMMANDS {
        sandbox.run(command, &["--unheard-of"])?.refused(2, &["unexpected argument '--unheard-of'", "Usage: "])?;
    }
    for command in ["prepare", "pretrain", "sft", "distill", "export-model"] {
        sandbox.run(command, &[])?.refused(2, &["--config <FILE>"])?;
    }
    sandbox.run("limbeck", &["--seeds", "0"])?.refused(2, &["'0'", "--seeds", "1..=100"])?;
    sandbox.stage("pretrain", &["--device", "tpu"])?.refused(2, &["'tpu'", "auto, cpu, wgpu, vulkan, metal, cuda"])
}

/// The tests of a build with wgpu have it.
#[cfg(not(feature = "wgpu"))]
#[test]
fn a_backend_that_the_build_lacks_is_named_with_its_feature() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    for device in ["wgpu", "vulkan", "metal", "cuda"] {
        let hint = format!("hint: build with `--features {device}`, or use `--device cpu`");
        let refused = sandbox.stage("pretrain", &["--device", device])?;
        refused.refused(2, &[&format!("--device is `{device}`"), &hint])?;
    }
    sandbox.stage("pretrain", &["--check"])?.says(&["device: cpu (", "`--features vulkan`"])
}

/// A build with the dashboard refuses it for want of a terminal.
#[test]
fn a_dashboard_that_cannot_be_shown_is_refused_before_the_run_begins() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    sandbox.stage("pretrain", &["--dashboard"])?.refused(2, &["--dashboard: ", "hint: "])?;
    // Nothing was begun that a second call would take for a run.
    sandbox.stage("pretrain", &[])?.complete()?;
    Ok(())
}

#[test]
fn numbers_that_make_no_sampling_are_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let refused = |option: &str, value: &str, rule: &str| {
        let arguments = ["--from", TEACHER, "--prompt", "Once", &format!("{option}={value}")];
        sandbox.run("generate", &arguments)?.refused(2, &[&format!("{option} is `{value}`, {rule}"), "hint: "])
    };
    refused("--temperature", "-0.5", "must be a finite number, `0` or more")?;
    refused("--temperature", "NaN", "must be a finite number, `0` or more")?;
    refused("--top-p", "2", "must be over `0` and at most `1`")?;
    refused("--top-p", "0", "must be over `0` and at most `1`")?;
    refused("--top-k", "0", "must be at least `1`")
}

#[test]
fn prompts_are_refused_where_they_leave_no_room() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let generate = |arguments: &[&str]| sandbox.run("generate", &[&["--from", TEACHER][..], arguments].concat());
    let long = "word and ".repeat(60);
    generate(&["--prompt", "short", "--prompt", &long])?
        .refused(2, &["prompt `1` has `", "must have fewer than max_position_embeddings = `48`", "hint: "])?;
    generate(&["--message", &long])?.refused(2, &["prompt `0` has `", "hint: "])?;
    generate(&[])?.refused(2, &["nothing to generate from", "hint: give --prompt or --message"])?;
    generate(&["--prompt", "a", "--message", "b"])?.refused(2, &["cannot be used with"])
}

#[test]
fn an_empty_prompt_is_a_text_from_its_beginning() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let generate = |more: &[&str]| sandbox.run("generate", &[&["--from", TEACHER, "--prompt", ""][..], more].concat());
    generate(&["--max-new-tokens", "5"])?.complete()?;
    // Far more tokens than there are places: it ends with the model's context.
    let all = generate(&["--max-new-tokens", &usize::MAX.to_string()])?.complete()?;
    assert_eq!(generate(&["--max-new-tokens", "1000"])?.complete()?, all);
    assert_eq!(generate(&["--max-new-tokens", "0"])?.complete()?, "");
    // A temperature at which every other token's weight underflows takes the most likely one.
    generate(&["--temperature", "1e-300"])?.complete()?;
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_crash() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let lines = [
        format!("generate --from {TEACHER} --prompt a --prompt b | true"),
        "pretrain --config configs/pretrain.toml --check | true".to_owned(),
        "pretrain --help | true".to_owned(),
    ];
    for line in lines {
        let outcome = sandbox.bash(&format!("{line}; exit ${{PIPESTATUS[0]}}"))?;
        assert!([0, 1].contains(&outcome.status), "{line}: {outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    }
    Ok(())
}

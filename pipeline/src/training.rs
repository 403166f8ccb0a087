//! What `pretrain`, `sft` and `distill` share: everything but the objective.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use limbeck_checkpoint::{Checkpoint, ManifestHeader, Parent, RunDirectory, content_hash, verify, write_atomically};
use limbeck_config::{ModelConfig, Problem, StartSection, TrainingConfig, TrainingStage, load_training, to_toml};
use limbeck_data::{Mixture, Tokenizer};
use limbeck_model::{Transformer, load_directory};
use limbeck_train::{
    AdamW, AlignmentTrainer, Ending, HiddenAlignment, NextToken, Objective, OnPolicy, Progress, Run, Trainer,
    load_alignment, load_optimizer, say,
};

use crate::cli::TrainingArgs;
use crate::failure::{Completion, Failure};
use crate::interrupt::Interrupt;
use crate::{check, device, fake_quant, prune, source, tokenised};

/// One kind of training.
pub struct Stage<'a> {
    /// Which rules its config follows.
    pub kind: TrainingStage,
    /// What it learns.
    pub goal: &'a GoalFactory,
    /// Looks at the model before its first step.
    pub before: Option<&'a BeforeFirstStep>,
}

/// Takes the config, the model, its tokenizer, the run directory, and the device without autodiff.
pub type BeforeFirstStep = dyn Fn(&TrainingConfig, &Transformer, &Tokenizer, &Path, &Device) -> Result<(), Failure>;

/// What a stage learns.
pub struct Goal {
    /// What is minimised.
    pub objective: Box<dyn Objective>,
    /// Steps that learn from the student's own samples instead.
    pub on_policy: Option<OnPolicy>,
    /// What is trained beside the model, as it begins.
    pub alignment: Option<HiddenAlignment>,
    /// Whose distribution, for the manifest.
    pub teacher: Option<Parent>,
}

/// Makes a stage's goal from its config, the shape and the tokenizer of what is trained, the data, and the device without
/// autodiff.
pub type GoalFactory = dyn Fn(&TrainingConfig, &ModelConfig, &Tokenizer, &Mixture, &Device) -> Result<Goal, Failure>;

/// The goal of predicting the next token.
///
/// # Errors
/// None: it is a [`GoalFactory`].
pub fn next_token(
    _: &TrainingConfig,
    _: &ModelConfig,
    _: &Tokenizer,
    _: &Mixture,
    _: &Device,
) -> Result<Goal, Failure> {
    Ok(Goal { objective: Box::new(NextToken), on_policy: None, alignment: None, teacher: None })
}

/// What a stage starts from.
struct Start {
    model: Transformer,
    tokenizer: Tokenizer,
    parent: Option<Parent>,
    /// What is still to be cut to the shape of `model`, whose weights are zero until then.
    cut: Option<prune::Plan>,
}

/// Runs the stage; complete, it gives the final checkpoint's path.
///
/// # Errors
/// Status 2 for everything that is found wrong before the first step, status 1 for what happens after it.
pub fn run(stage: &Stage, args: &TrainingArgs) -> Result<Completion, Failure> {
    let mut config = load_training(stage.kind, &args.config.config, &args.config.set).map_err(Failure::usage)?;
    let out = args.out.clone().unwrap_or_else(|| run_directory(&config.run.name, stage.kind.directory()));
    let directory = if args.check { None } else { Some(open_directory(&out, args, &config)?) };
    let device = device::open(args.device)?;
    let precision = device::precision("train.precision", config.train.precision, &device)?;
    config.train.precision = Some(precision);
    let mut start = start(&config, &device)?;
    let fake_quant = fake_quant::checked(config.train.fake_quant, &start.model, &device)?;
    let train = tokenised::open(&config, &config.data.train, &start.tokenizer)?;
    let goal = (stage.goal)(&config, start.model.config(), &start.tokenizer, &train, &device)?;
    let valid = match &config.data.valid[..] {
        [] => None,
        entries => Some(tokenised::open(&config, entries, &start.tokenizer)?),
    };
    let toml = to_toml(&config).map_err(Failure::usage)?;
    let Some(directory) = directory else {
        let model = start.model.with_precision(device::of_products(precision)).with_fake_quant(fake_quant);
        check::print(&config, &toml, model, goal, &train)?;
        return Ok(Completion::Complete { path: None });
    };
    let Goal { objective, on_policy, alignment, teacher } = goal;
    let header = ManifestHeader {
        stage: stage.kind.name().to_owned(),
        seed: config.seed(),
        config_hash: content_hash(toml.as_bytes()),
        data_fingerprint: train.fingerprint(),
        parent: start.parent,
        teacher,
        ..ManifestHeader::default()
    };
    let resumed = match &args.resume {
        None => None,
        Some(step) => resumable(&directory, step.as_deref(), &header)?,
    };
    if let Some(Checkpoint { path, manifest }) = &resumed
        && manifest.complete
    {
        say!("{}: already complete", stage.kind.name());
        return Ok(Completion::Complete { path: Some(path.clone()) });
    }
    let mut report = None;
    if let (Some(plan), None) = (start.cut.take(), &resumed) {
        let (model, cut) = plan.run(&config, &train, &device)?;
        (start.model, report) = (model, Some(cut));
    }
    let (mut trainer, done) = trainer(&config, start.model, alignment, resumed.as_ref(), &device)?;
    trainer.model = trainer.model.with_precision(device::of_products(precision)).with_fake_quant(fake_quant);
    let progress =
        Progress::open(args.display(), stage.kind.name(), done, config.max_steps()).map_err(Failure::usage)?;
    // From here on the directory holds a run, so everything that can be refused was.
    write_atomically(&directory.path().join("config.toml"), &toml).map_err(Failure::usage)?;
    if let Some(before) = stage.before.filter(|_| done == 0) {
        before(&config, &trainer.model, &start.tokenizer, directory.path(), &device)?;
    }
    if let Some(report) = report {
        report.write(directory.path())?;
    }
    let interrupt = Interrupt::listen()?;
    let run = Run {
        config: &config,
        objective: objective.as_ref(),
        on_policy: on_policy.as_ref(),
        train: &train,
        valid: valid.as_ref(),
        tokenizer: &start.tokenizer,
        directory: &directory,
        header,
        stop: &|| interrupt.signal().is_some(),
    };
    match run.train(trainer, done, progress).map_err(Failure::run)?.1 {
        Ending::Complete(path) => Ok(Completion::Complete { path: Some(path) }),
        Ending::Interrupted(path) => {
            say!("{}: saved `{}`", stage.kind.name(), path.display());
            // The dashboard's stop comes without a signal, and means Ctrl-C.
            Ok(Completion::Interrupted { signal: interrupt.signal().unwrap_or(signal_hook::consts::SIGINT) })
        }
    }
}

/// `checkpoints/<run.name>/<directory>`.
pub fn run_directory(name: &str, directory: &str) -> PathBuf {
    Path::new("checkpoints").join(name).join(directory)
}

fn open_directory(out: &Path, args: &TrainingArgs, config: &TrainingConfig) -> Result<RunDirectory, Failure> {
    let open = if args.resume.is_some() { RunDirectory::resume } else { RunDirectory::create };
    Ok(open(out).map_err(Failure::usage)?.keep(config.train.keep_checkpoints))
}

fn start(config: &TrainingConfig, inner: &Device) -> Result<Start, Failure> {
    let device = &inner.clone().autodiff();
    let named = config.data.tokenizer.as_deref().map(|path| source::tokenizer("data.tokenizer", path)).transpose()?;
    match (&config.start, &config.model, named) {
        (StartSection::Checkpoint { from }, _, named) => {
            let source = source::open_masters("start.from", from, device)?;
            source.check_length("start.from", config.data.sequence_length)?;
            if let Some(named) = named {
                named
                    .check_same(&source.tokenizer)
                    .context("data.tokenizer is not the tokenizer of start.from")
                    .map_err(Failure::usage)?;
            }
            Ok(Start { model: source.model, tokenizer: source.tokenizer, parent: Some(source.parent), cut: None })
        }
        (StartSection::Prune(section), _, named) => {
            let (plan, tokenizer) = prune::Plan::open(section, named, config, inner)?;
            let (model, parent) = (Transformer::zeros(plan.shape(), device), Some(plan.parent()));
            Ok(Start { model, tokenizer, parent, cut: Some(plan) })
        }
        (StartSection::Random {}, Some(model), Some(tokenizer)) => {
            let model = model.resolve(tokenizer.vocab_size(), config.data.sequence_length).map_err(refused)?;
            let model = Transformer::new(&model, config.seed(), device);
            Ok(Start { model, tokenizer, parent: None, cut: None })
        }
        // Loading the config refuses it first.
        (StartSection::Random {}, _, _) => {
            Err(Failure::usage(anyhow!("random weights need [model] and data.tokenizer; hint: give both")))
        }
    }
}

/// Rules that only show once a model or a tokenizer is known.
pub(crate) fn refused(problems: Vec<Problem>) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::usage(anyhow!("{}", lines.join("\n")))
}

/// The checkpoint to go on from, of the same config, data and parents.
fn resumable(
    directory: &RunDirectory,
    step: Option<&Path>,
    header: &ManifestHeader,
) -> Result<Option<Checkpoint>, Failure> {
    let checkpoint = match step {
        Some(path) => {
            let inside = path.canonicalize().ok().zip(directory.path().canonicalize().ok());
            if inside.is_none_or(|(step, run)| step.parent() != Some(&run)) {
                let (step, run) = (path.display(), directory.path().display());
                return Err(Failure::usage(anyhow!(
                    "--resume is `{step}`, must be a step directory of `{run}`; hint: to train on from another run's \
                     checkpoint use `start.from`"
                )));
            }
            Some(Checkpoint { path: path.to_owned(), manifest: verify(path).map_err(Failure::usage)? })
        }
        None => {
            let newest = directory.newest().map_err(Failure::usage)?;
            for skipped in &newest.skipped {
                say!("warning: {skipped}");
            }
            if let (None, [skipped, ..]) = (&newest.checkpoint, &newest.skipped[..]) {
                return Err(Failure::usage(anyhow!(
                    "--resume: no checkpoint of `{}` is whole ({}); hint: restore its files, or start anew with another \
                     --out",
                    directory.path().display(),
                    skipped.reason
                )));
            }
            newest.checkpoint
        }
    };
    let Some(checkpoint) = checkpoint else { return Ok(None) };
    let manifest = &checkpoint.manifest;
    let same = [
        ("stage", manifest.stage == header.stage),
        ("config", manifest.config_hash == header.config_hash),
        ("training data", manifest.data_fingerprint == header.data_fingerprint),
        ("starting checkpoint", hash(&manifest.parent) == hash(&header.parent)),
        ("teacher", hash(&manifest.teacher) == hash(&header.teacher)),
    ];
    match same.iter().find(|(_, same)| !same) {
        None => Ok(Some(checkpoint)),
        Some((what, _)) => Err(Failure::usage(anyhow!(
            "--resume: the {what} is not the one that `{}` was made with; hint: compare `{}`, or start anew with another \
             --out",
            checkpoint.path.display(),
            directory.path().join("config.toml").display()
        ))),
    }
}

fn hash(parent: &Option<Parent>) -> Option<&str> {
    parent.as_ref().map(|parent| parent.hash.as_str())
}

/// The trainer and the steps that it has done.
fn trainer(
    config: &TrainingConfig,
    model: Transformer,
    alignment: Option<HiddenAlignment>,
    resumed: Option<&Checkpoint>,
    device: &Device,
) -> Result<(Trainer, u64), Failure> {
    let settings = &config.optimizer;
    let Some(Checkpoint { path, manifest }) = resumed else {
        return Ok((new_trainer(config, model, alignment)?, 0));
    };
    say!("resuming from `{}`", path.display());
    let model = load_directory(path, &device.clone().autodiff()).map_err(Failure::usage)?;
    let optimizer = load_optimizer(settings, manifest.step, path, device).map_err(Failure::usage)?;
    let alignment = alignment.map(|alignment| load_alignment(alignment, settings, manifest.step, path, device));
    let alignment = alignment.transpose().map_err(Failure::usage)?;
    Ok((Trainer { model, optimizer, alignment, recompute: config.train.recompute }, manifest.step))
}

/// A trainer that has made no step.
pub(crate) fn new_trainer(
    config: &TrainingConfig,
    model: Transformer,
    alignment: Option<HiddenAlignment>,
) -> Result<Trainer, Failure> {
    let optimizer = || AdamW::new(&config.optimizer).map_err(Failure::usage);
    let alignment = match alignment {
        Some(alignment) => Some(AlignmentTrainer { alignment, optimizer: optimizer()? }),
        None => None,
    };
    Ok(Trainer { model, optimizer: optimizer()?, alignment, recompute: config.train.recompute })
}

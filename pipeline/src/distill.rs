//! `distill`: a student learns a teacher's distribution; `--control` learns the same rows by cross-entropy alone, and
//! `--capture` and `--generate` keep the teacher's logits and answers for later. What came of it is in the [`gap`] report.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use burn::tensor::Device;
use clap::Args;
use limbeck_config::{DistillSection, ModelConfig, TrainingConfig, TrainingStage, load_training};
use limbeck_data::{Mixture, Tokenizer};
use limbeck_logits::Shard;
use limbeck_loss::MixedLoss;
use limbeck_train::{Distillation, HiddenAlignment, OnPolicy, Teacher};

use crate::cli::TrainingArgs;
use crate::control::Control;
use crate::failure::{Completion, Failure};
use crate::gap::{self, is_complete, student_flops, teacher_flops};
use crate::training::{self, Goal, Stage, refused, run_directory};
use crate::{answers, capture, device, source, teacher, tokenised};

/// Arguments of `distill`.
#[derive(Args, Clone, Debug)]
pub struct DistillArgs {
    /// Those of every stage that trains.
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Trains the same student on the same rows by cross-entropy alone: `tokens` for as many steps, into `student-ce`;
    /// `compute` for those besides that the teacher's forward passes would have paid for, into `student-ce-compute`, once the
    /// student is complete. An --out that ends in `-ce` or `-ce-compute` is the control of the run without that.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "tokens")]
    pub control: Option<Control>,
    /// Runs the teacher `teacher.from` once over the training data and keeps its logits in `teacher.logits`, instead of
    /// training. What is there already is kept, so the same command goes on after an interruption.
    #[arg(long, conflicts_with = "control")]
    pub capture: bool,
    /// Lets the teacher `teacher.from` answer the chats of the training data, instead of training: writes a parquet file that
    /// sft reads, and prints its path. The same command goes on after an interruption.
    #[arg(long, conflicts_with_all = ["control", "capture"])]
    pub generate: bool,
    /// With --capture: this process writes the parts whose number is I modulo N.
    #[arg(long, value_name = "I/N", requires = "capture")]
    pub shard: Option<Shard>,
}

impl DistillArgs {
    /// Trains the student, or its control.
    pub fn training(training: TrainingArgs, control: Option<Control>) -> Self {
        Self { training, control, capture: false, generate: false, shard: None }
    }
}

/// Runs the stage.
///
/// # Errors
/// See [`training::run`], [`capture::run`], [`answers::run`] and [`gap::report`].
pub fn run(args: &DistillArgs) -> Result<Completion, Failure> {
    if args.capture {
        return capture::run(&args.training, args.shard.unwrap_or_default());
    }
    if args.generate {
        return answers::run(&args.training);
    }
    let mut training = args.training.clone();
    let config = load(&training)?;
    let out = training.out.get_or_insert_with(|| {
        let student = run_directory(&config.run.name, TrainingStage::Distill.directory());
        args.control.map_or(student.clone(), |control| control.directory(&student))
    });
    let student = match args.control {
        None => Some(out.clone()),
        Some(control) => control.student(out),
    };
    let kind = TrainingStage::Distill;
    let completion = match args.control {
        None => training::run(&Stage { kind, goal: &distillation, before: Some(&gap::before) }, &training),
        Some(control) => {
            if control == Control::Compute {
                let steps = equal_compute_steps(&config, student.as_deref(), &device::open(training.device)?)?;
                // An empty value takes out what is there alone.
                training.config.set.extend(config.train.max_tokens.map(|_| "train.max_tokens=".to_owned()));
                training.config.set.push(format!("train.max_steps={steps}"));
            }
            training::run(&Stage { kind, goal: &training::next_token, before: None }, &training)
        }
    }?;
    if let (Completion::Complete { path: Some(_) }, Some(student)) = (&completion, student)
        && is_complete(&student)
    {
        let config = load_training(kind, &student.join("config.toml"), &[]).map_err(Failure::run)?;
        gap::report(&config, &student, &device::open(training.device)?)?;
    }
    Ok(completion)
}

fn load(args: &TrainingArgs) -> Result<TrainingConfig, Failure> {
    load_training(TrainingStage::Distill, &args.config.config, &args.config.set).map_err(Failure::usage)
}

/// The steps of the control that trains for what the student and its teacher took together.
fn equal_compute_steps(config: &TrainingConfig, student: Option<&Path>, device: &Device) -> Result<u64, Failure> {
    let Some(student) = student.filter(|student| is_complete(student)) else {
        let student = student.map_or(PathBuf::from("the student"), Path::to_owned);
        return Err(Failure::usage(anyhow!(
            "--control=compute needs the complete student, and `{}` has none; hint: run `distill` first, and give an --out \
             of `<the student's>-ce-compute`",
            student.display()
        )));
    };
    let Some(from) = config.teacher.as_ref().and_then(|section| section.from.as_deref()) else {
        return Err(Failure::usage(anyhow!(
            "--control=compute needs teacher.from, whose shape says what the logits took; hint: give it beside \
             teacher.logits"
        )));
    };
    let student = source::open("student", student, device)?;
    let data = tokenised::open(config, &config.data.train, &student.tokenizer)?;
    let teacher = teacher::model(config, from, &student.tokenizer, device)?.gathered(config, &data)?;
    let tokens = config.max_steps() * config.train.tokens_per_step as u64;
    let own = student_flops(config, &student, tokens);
    let both = own + teacher_flops(config, &student, &teacher, tokens)?;
    Ok((config.max_steps() as f64 * both / own).round() as u64)
}

fn distillation(
    config: &TrainingConfig,
    student: &ModelConfig,
    tokenizer: &Tokenizer,
    data: &Mixture,
    device: &Device,
) -> Result<Goal, Failure> {
    let Some(distill) = &config.distill else {
        // Loading the config refuses it first.
        return Err(Failure::usage(anyhow!("`distill` needs [distill]; hint: give distill.temperature")));
    };
    let (teacher, parent) = teacher::open(config, distill, tokenizer, data, device)?;
    let on_policy = on_policy(config, distill, &teacher, (tokenizer, data), device)?;
    let alignment = alignment(config, distill, student, &teacher, device)?;
    let loss = MixedLoss { divergence: distill.into(), ce_weight: distill.ce_weight };
    let objective = Distillation { teacher, loss };
    Ok(Goal { objective: Box::new(objective), on_policy, alignment, teacher: Some(parent) })
}

/// What `[distill.hidden]` adds to the loss, whatever the step learns from.
fn alignment(
    config: &TrainingConfig,
    distill: &DistillSection,
    student: &ModelConfig,
    teacher: &Teacher,
    device: &Device,
) -> Result<Option<HiddenAlignment>, Failure> {
    // Loading the config refuses the term with captured logits.
    let (Some(section), Teacher::Online(teacher)) = (distill.alignment(), teacher) else { return Ok(None) };
    let teacher = teacher.config();
    let pairs = section.pairs(student.num_hidden_layers, teacher.num_hidden_layers).map_err(refused)?;
    let sizes = (student.hidden_size, teacher.hidden_size);
    let term = (section.kind, section.weight);
    Ok(Some(HiddenAlignment::new(term, pairs, sizes, config.seed(), &device.clone().autodiff())))
}

/// The steps of `[on_policy]`, in which a model is the teacher even where the others read captured logits.
fn on_policy(
    config: &TrainingConfig,
    distill: &DistillSection,
    teacher: &Teacher,
    (tokenizer, data): (&Tokenizer, &Mixture),
    device: &Device,
) -> Result<Option<OnPolicy>, Failure> {
    let Some(section) = config.on_policy.clone().filter(|section| section.fraction > 0.0) else { return Ok(None) };
    let from = config.teacher.as_ref().and_then(|teacher| teacher.from.as_ref());
    let model = match (teacher, from) {
        (Teacher::Online(model), _) => model.clone(),
        (Teacher::Cached(_), Some(from)) => {
            Box::new(teacher::model(config, from, tokenizer, device)?.gathered(config, data)?.model)
        }
        // Loading the config refuses it first.
        (Teacher::Cached(_), None) => return Err(Failure::usage(anyhow!("[on_policy] needs teacher.from"))),
    };
    let loss = MixedLoss { divergence: distill.into(), ce_weight: 0.0 };
    let objective = Distillation { teacher: Teacher::Online(model), loss };
    Ok(Some(OnPolicy { section, objective, stop: tokenizer.stop_ids(), seed: config.seed() }))
}

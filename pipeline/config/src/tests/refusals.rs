//! Values out of range, and several problems at once.

use super::{load_text, refusals, tiny};

/// Each override of a tiny config that breaks one rule, and how the message begins.
const REFUSED: &[(&str, &[&str], &str)] = &[
    ("pretrain", &["run.name=a/b"], "run.name is `a/b`, must be one part of a path"),
    ("pretrain", &["run.name=.."], "run.name is `..`, must be one part of a path"),
    ("pretrain", &["run.name=a\\b"], "run.name is `a\\b`, must be one part of a path"),
    ("pretrain", &["run.name=''"], "run.name is ``, must be one part of a path"),
    ("pretrain", &["run.name=\"a\\nb\""], "run.name is `a\\nb`, must not hold control characters"),
    ("pretrain", &["run.seed=-1"], "run.seed is `-1`, must be a whole number, 0 or more"),
    ("pretrain", &["data.train=[]"], "data.train is missing, must have at least one entry"),
    ("pretrain", &["data.train.0.path=''"], "data.train.0.path is ``, must not be empty"),
    ("pretrain", &["data.train.0.kind=chat"], "data.train.0.kind is `\"chat\"`, must be one of `documents`, `chats`"),
    ("pretrain", &["data.train.0.weight=0"], "data.train.0.weight is `0.0`, must be a finite number over `0`"),
    ("pretrain", &["data.train.0.weight=inf"], "data.train.0.weight is `inf`, must be a finite number over `0`"),
    ("pretrain", &["data.valid.0.weight=nan"], "data.valid.0.weight is `NaN`, must be a finite number over `0`"),
    ("pretrain", &["data.valid="], "train.eval_every is `100`, needs data.valid"),
    ("pretrain", &["data.tokenizer="], "data.tokenizer is missing, start.kind = `random` needs one"),
    ("pretrain", &["model="], "model is missing, start.kind = `random` needs a shape"),
    ("pretrain", &["start.kind=cut"], "start.kind is `\"cut\"`, must be one of `random`, `checkpoint`, `prune`"),
    ("sft", &["start={kind=\"prune\"}"], "start.from is missing"),
    ("sft", &["start={kind=\"prune\", from=\"\"}"], "start.from is ``, must not be empty"),
    (
        "sft",
        &["start={kind=\"prune\", from=\"x\", calibration_tokens=0}"],
        "start.calibration_tokens is `0`, must be at least `1`",
    ),
    (
        "sft",
        &["start={kind=\"prune\", from=\"x\", num_hidden_layers=0}"],
        "start.num_hidden_layers is `0`, must be at least `1`",
    ),
    (
        "sft",
        &["start={kind=\"prune\", from=\"x\", num_hiden_layers=1}"],
        "start.num_hiden_layers is not a key of [start]; hint: did you mean `num_hidden_layers`",
    ),
    ("sft", &["start.from=''"], "start.from is ``, must not be empty"),
    ("sft", &["data.train.0.prompt_column=q"], "data.train.0.completion_column is missing, goes with"),
    ("sft", &["data.train.0.completion_column=a"], "data.train.0.prompt_column is missing, goes with"),
    (
        "sft",
        &["data.train.0.prompt_column=q", "data.train.0.completion_column=a", "data.train.0.column=messages"],
        "data.train.0.prompt_column is `q`, must not be given with data.train.0.column = `messages`",
    ),
    (
        "pretrain",
        &["data.train.0.prompt_column=q", "data.train.0.completion_column=a"],
        "data.train.0.prompt_column is `q`, needs data.train.0.kind = `chats`",
    ),
    ("pretrain", &["model.hidden_size=100", "model.head_dim="], "model.head_dim is `25`, hidden_size / num_attention"),
    (
        "pretrain",
        &["model.hidden_size=4611686018427387904"],
        "model has `18446744073709551615` parameters, must have at",
    ),
    ("pretrain", &["model.num_hidden_layers=9000000"], "model has `1772352000256` parameters, must have at most"),
    (
        "pretrain",
        &["train.tokens_per_step=4294967296"],
        "train.tokens_per_step is `4294967296`, must be at most `42949",
    ),
    ("pretrain", &["model.head_dim=31"], "model.head_dim is `31`, must be even"),
    ("pretrain", &["model.num_key_value_heads=3"], "model.num_key_value_heads is `3`, must divide"),
    ("pretrain", &["model.vocab_size=0"], "model.vocab_size is `0`, must be at least `1`"),
    ("pretrain", &["model.rope_theta=1"], "model.rope_theta is `1.0`, must be a finite number over `1`"),
    (
        "pretrain",
        &["model.max_position_embeddings=127"],
        "model.max_position_embeddings is `127`, must be at least data.sequence_length = `128`",
    ),
    ("pretrain", &["train.max_steps=0"], "train.max_steps is `0`, must be at least `1`"),
    ("pretrain", &["train.max_steps=1.5"], "train.max_steps is `1.5`, must be a whole number"),
    ("pretrain", &["train.max_steps="], "train.max_steps is missing, and so is train.max_tokens"),
    ("pretrain", &["train.max_tokens=9"], "train.max_steps is `600`, must not be given with train.max_tokens = `9`"),
    ("pretrain", &["train.tokens_per_step=4000"], "train.tokens_per_step is `4000`, must be a multiple of data.sequ"),
    ("pretrain", &["train.tokens_per_step=0"], "train.tokens_per_step is `0`, must be a multiple"),
    ("pretrain", &["train.micro_batch_size=0"], "train.micro_batch_size is `0`, must be at least `1`"),
    ("pretrain", &["train.micro_batch_size=5"], "train.micro_batch_size is `5`, must divide the `32` rows of a step"),
    ("pretrain", &["train.precision=fp8"], "train.precision is `\"fp8\"`, must be one of `fp32`, `bf16`, `fp16`"),
    ("pretrain", &["train.log_every=0"], "train.log_every is `0`, must be at least `1`"),
    ("pretrain", &["train.eval_every=0"], "train.eval_every is `0`, must be at least `1`"),
    ("pretrain", &["train.save_every=0"], "train.save_every is `0`, must be at least `1`"),
    ("pretrain", &["train.keep_checkpoints=1"], "train.keep_checkpoints is `1`, must be at least `2`"),
    ("pretrain", &["optimizer.learning_rate=0"], "optimizer.learning_rate is `0.0`, must be a finite number over `0`"),
    ("pretrain", &["optimizer.beta_1=1"], "optimizer.beta_1 is `1.0`, must be from `0` to under `1`"),
    ("pretrain", &["optimizer.beta_2=-0.1"], "optimizer.beta_2 is `-0.1`, must be from `0` to under `1`"),
    ("pretrain", &["optimizer.epsilon=0"], "optimizer.epsilon is `0.0`, must be a finite number over `0`"),
    ("pretrain", &["optimizer.weight_decay=-1"], "optimizer.weight_decay is `-1.0`, must be a finite number, `0`"),
    ("pretrain", &["optimizer.max_grad_norm=0"], "optimizer.max_grad_norm is `0.0`, must be a finite number over `0`"),
    ("pretrain", &["optimizer.groups.0.parameters=a[b"], "optimizer.groups.0.parameters is `a[b`, must be a glob"),
    (
        "pretrain",
        &["optimizer.groups=[{parameters=\"*\", learning_rate_scale=-1.0}]"],
        "optimizer.groups.0.learning_rate_scale is `-1.0`, must be a finite number, `0` or more",
    ),
    (
        "pretrain",
        &["optimizer.groups=[{parameters=\"*\", weight_decay=-1.0}]"],
        "optimizer.groups.0.weight_decay is `-1.0`, must be a finite number, `0` or more",
    ),
    ("pretrain", &["schedule.warmup_steps=601"], "schedule.warmup_steps is `601`, must fit in the run's `600` steps"),
    (
        "pretrain",
        &["schedule={kind=\"warmup_stable_decay\", warmup_steps=301, decay_steps=300}"],
        "schedule.warmup_steps is `301`, must with schedule.decay_steps = `300` fit in the run's `600` steps",
    ),
    (
        "pretrain",
        &["schedule.decay_steps=3"],
        "schedule.decay_steps is not a key of [schedule]; hint: `decay_steps` bel",
    ),
    ("pretrain", &["schedule.final_ratio=1.1"], "schedule.final_ratio is `1.1`, must be from `0` to `1`"),
    ("pretrain", &["teacher.from=x"], "teacher is given, but pretrain has no use for it"),
    ("sft", &["distill.ce_weight=0.5"], "distill is given, but sft has no use for it"),
    ("distill", &["teacher="], "teacher is missing, distill needs one"),
    ("distill", &["teacher.from=''"], "teacher.from is ``, must not be empty"),
    ("distill", &["teacher={}"], "teacher.from is missing, and so is teacher.logits: one of them must be given"),
    ("distill", &["teacher.logits=''"], "teacher.logits is ``, must not be empty"),
    ("sft", &["capture.seed=1"], "capture is given, but sft has no use for it"),
    (
        "sft",
        &["on_policy={fraction=0.5, prompt_tokens=9, max_new_tokens=9}"],
        "on_policy is given, but sft has no use for it",
    ),
    ("distill", &["on_policy.fraction=1.1"], "on_policy.fraction is `1.1`, must be from `0` to `1`"),
    ("distill", &["on_policy.prompt_tokens=0"], "on_policy.prompt_tokens is `0`, must be at least `1`"),
    ("distill", &["on_policy.max_new_tokens=0"], "on_policy.max_new_tokens is `0`, must be at least `1`"),
    (
        "distill",
        &["on_policy.prompt_tokens=28", "on_policy.max_new_tokens=101"],
        "on_policy.max_new_tokens is `101`, must with on_policy.prompt_tokens = `28` be at most data.sequence_length = `128`",
    ),
    ("distill", &["on_policy.temperature=-1"], "on_policy.temperature is `-1.0`, must be a finite number, `0` or more"),
    ("distill", &["on_policy.top_k=0"], "on_policy.top_k is `0`, must be at least `1`"),
    ("distill", &["on_policy.top_p=0"], "on_policy.top_p is `0.0`, must be over `0` and at most `1`"),
    (
        "distill",
        &["on_policy.fraction=0.5", "teacher={logits=\"x\"}"],
        "on_policy.fraction is `0.5`, needs teacher.from: captured logits are of the data alone",
    ),
    ("distill", &["on_policy={fraction=0.5, prompt_tokens=3}"], "on_policy.max_new_tokens is missing, "),
    ("sft", &["generate.temperature=1"], "generate is given, but sft has no use for it"),
    ("distill", &["generate.max_new_tokens=0"], "generate.max_new_tokens is `0`, must be at least `1`"),
    ("distill", &["generate.batch_size=0"], "generate.batch_size is `0`, must be at least `1`"),
    (
        "distill",
        &["generate.temperature=1", "generate.samples_per_prompt=0"],
        "generate.samples_per_prompt is `0`, must be from `1` to `1024`",
    ),
    (
        "distill",
        &["generate.samples_per_prompt=2"],
        "generate.samples_per_prompt is `2`, needs generate.temperature over `0`: the most likely answer is always the same",
    ),
    ("distill", &["generate.temperature=nan"], "generate.temperature is `NaN`, must be a finite number, `0` or more"),
    ("distill", &["generate.top_k=0"], "generate.top_k is `0`, must be at least `1`"),
    ("distill", &["generate.top_p=1.5"], "generate.top_p is `1.5`, must be over `0` and at most `1`"),
    ("distill", &["generate.keep_unfinished=1"], "generate.keep_unfinished is `1`, must be `true` or `false`"),
    ("distill", &["capture.codec.draws=0"], "capture.codec.draws is `0`, must be from `1` to `65535`; hint: use `1`"),
    ("distill", &["capture.codec.sets=1025"], "capture.codec.sets is `1025`, must be from `1` to `1024`"),
    ("distill", &["capture.codec={kind=\"top_k\", k=0}"], "capture.codec.k is `0`, must be at least `1`"),
    ("distill", &["capture.codec={kind=\"top_k\"}"], "capture.codec.k is missing, "),
    ("distill", &["capture.codec.k=5"], "capture.codec.k is not a key of [capture.codec]; hint: `k` belongs"),
    ("distill", &["distill.temperature=0"], "distill.temperature is `0.0`, must be a finite number over `0`"),
    ("distill", &["distill.ce_weight=1.01"], "distill.ce_weight is `1.01`, must be from `0` to `1`"),
    ("distill", &["distill.divergence.kind=kl"], "distill.divergence.kind is `\"kl\"`, must be one of `forward_kl`, "),
    (
        "distill",
        &["distill.divergence.alpha=0.1"],
        "distill.divergence.alpha is not a key of [distill.divergence]; hint: `alpha` belongs",
    ),
    (
        "distill",
        &["distill.divergence={kind=\"skewed_forward_kl\", alpha=1.0}"],
        "distill.divergence.alpha is `1.0`, must be from `0` to under `1`; hint: `0.1` is usual",
    ),
    (
        "distill",
        &["distill.divergence={kind=\"skewed_reverse_kl\", alpha=-0.1}"],
        "distill.divergence.alpha is `-0.1`, must be from `0` to under `1`",
    ),
    (
        "distill",
        &["distill.divergence={kind=\"jensen_shannon\", beta=1.5}"],
        "distill.divergence.beta is `1.5`, must be from `0` to `1`",
    ),
    (
        "distill",
        &["distill.divergence={kind=\"jensen_shannon\", normalized=true}"],
        "distill.divergence.normalized is not a key of [distill.divergence]; hint: did you mean `normalised`",
    ),
    (
        "distill",
        &["distill.scale_by_temperature_squared=2"],
        "distill.scale_by_temperature_squared is `2`, must be `true` or `false`",
    ),
    ("prepare", &["tokenizer.vocab_size=299"], "tokenizer.vocab_size is `299`, must be at least `300`"),
    ("prepare", &["tokenizer.vocab_size="], "tokenizer.vocab_size is missing, tokenizer.kind = `train` needs one"),
    ("prepare", &["tokenizer.kind=cut"], "tokenizer.kind is `\"cut\"`, must be one of `train`, `restrict`"),
    ("prepare", &["tokenizer.from=x"], "tokenizer.from is `x`, has no use with tokenizer.kind = `train`"),
    ("prepare", &["tokenizer.kind=restrict"], "tokenizer.from is missing, tokenizer.kind = `restrict` needs one"),
    (
        "prepare",
        &["tokenizer.kind=restrict", "tokenizer.from=data/tiny/tokenizer"],
        "tokenizer.from is `data/tiny/tokenizer`, must be another directory than tokenizer.path",
    ),
    ("prepare", &["corpus.valid_chats=0"], "corpus.valid_chats is `0`, must be at least `1`"),
    ("export-model", &["export.formats=[]"], "export.formats is `[]`, must not be empty"),
    (
        "export-model",
        &["export.formats=[\"gguf_f16\", \"hugging_face\", \"gguf_f16\"]"],
        "export.formats.2 is `gguf_f16`, must not repeat export.formats.0",
    ),
    (
        "export-model",
        &["export.formats.3=gguf_q8"],
        "export.formats.3 is `\"gguf_q8\"`, must be one of `hugging_face`, `gguf_f32`, `gguf_f16`, `gguf_q8_0`, `gguf_q6_k`, \
         `gguf_q5_k_m`, `gguf_q4_k_m`, `gguf_q4_0`, `mlx_q8`, `mlx_q4`; hint: did you mean `gguf_q8_0`",
    ),
    (
        "export-model",
        &["export.license=Apache License"],
        "export.license is `Apache License`, must be one word of letters, digits, `-`, `.` and `_`; hint: such as `apache-2.0`",
    ),
    ("export-model", &["data.sequence_length=1"], "data.sequence_length is `1`, must be at least `2`"),
    ("export-model", &["data.valid.0.path=\"\""], "data.valid.0.path is ``, must not be empty"),
];

#[test]
fn a_value_out_of_range_is_named_with_its_rule_and_a_hint() {
    for (stage, overrides, expected) in REFUSED {
        let problems = refusals(stage, overrides);
        assert_eq!(problems.len(), 1, "{overrides:?}: {problems:?}");
        assert!(problems[0].starts_with(expected), "{overrides:?}: {}", problems[0]);
        assert!(problems[0].contains("; hint: "), "{}", problems[0]);
    }
}

#[test]
fn a_checkpoint_brings_its_shape() {
    let problems = refusals("distill", &["start={kind=\"checkpoint\", from=\"x\"}"]);
    assert_eq!(
        problems,
        [
            "model is given, but start.kind = `checkpoint` has its own shape; hint: leave [model] out (--set model=), or use \
          start.kind = `random`"
        ]
    );
}

#[test]
fn what_is_cut_has_a_shape_already() {
    let problems = refusals("distill", &["start={kind=\"prune\", from=\"x\", num_hidden_layers=1}"]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("model is given, but start.kind = `prune` has its own shape"), "{problems:?}");
}

#[test]
fn distill_fills_in_its_loss() {
    let config = tiny("distill", &["distill="]).unwrap().training();
    assert_eq!(config.distill, Some(crate::DistillSection::default()));
    assert_eq!((config.distill.unwrap().temperature, tiny("sft", &[]).unwrap().training().distill), (1.0, None));
}

/// A file with one slip of each sort.
const WRONG: &str = r#"[run]
nane = "wrong"
seed = -3

[data]
tokenizer = "tokenizer.json"
sequence_lenth = 100
train = { path = "x" }

[model]
hidden_size = 100
intermediate_size = "256"
num_attention_heads = 8

[train]
max_steps = 10
tokens_per_step = 950
learning_rate = 1e-3

[schedule]
kind = "linear"
warmup_steps = 500

[optimiser]
learning_rate = "1e-3"

[wandb]
project = "x"
"#;

#[test]
fn everything_that_is_wrong_is_reported_at_once_by_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), WRONG).unwrap();
    let errors = super::load_as("pretrain", file.path(), &["train.log_evry=1".into()]).unwrap_err();
    insta::assert_snapshot!(errors.to_string().replace(&file.path().display().to_string(), "wrong.toml"));
}

#[test]
fn a_problem_that_only_follows_from_another_is_not_reported() {
    // 4096 is no multiple of what a placeholder would be; the slip alone is told.
    assert_eq!(refusals("pretrain", &["data.sequence_length='x'", "model.max_position_embeddings=3"]).len(), 1);
    // A misspelt key still counts as what it was meant to be.
    let renamed = ["data.sequence_length=", "data.sequence_lenght=1000"];
    let problems = refusals("pretrain", &renamed);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("must be a multiple of data.sequence_length = `1000`")));
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let errors = load_text("pretrain", "[run]\nname = tiny\n").unwrap_err().to_string();
    assert!(errors.contains(":2: not TOML: "), "{errors}");
    let errors = load_text("pretrain", "[run]\nname = \"a\"\nname = \"b\"\n").unwrap_err().to_string();
    assert!(errors.contains(":3: not TOML: duplicate key"), "{errors}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = super::load_as("prepare", "no/such.toml".as_ref(), &[]).unwrap_err().to_string();
    assert!(errors.starts_with("config `no/such.toml` cannot be read: "), "{errors}");
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let errors = load_text("export-model", "\"a\\u001b[31m\" = 1\n[run]\nname = \"\\u001b/\"\n").unwrap_err();
    assert!(!errors.to_string().contains('\u{1b}'));
}

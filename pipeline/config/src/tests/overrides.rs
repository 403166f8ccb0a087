//! `--set`.

use proptest::prelude::*;

use super::{refusals, tiny};
use crate::{StartSection, TrainingConfig};

fn pretrain(overrides: &[&str]) -> TrainingConfig {
    tiny("pretrain", overrides).unwrap_or_else(|errors| panic!("{errors}")).training()
}

#[test]
fn a_value_is_toml_or_else_the_text_itself() {
    let config = pretrain(&[
        "run.name=books-2",
        "optimizer.learning_rate=5e-4",
        "train.max_steps=1_000",
        "data.train.0.path=my data/part=1/*.parquet",
        "data.cache='quoted'",
        "model.tie_word_embeddings=false",
        "schedule.final_ratio=0",
    ]);
    assert_eq!(config.run.name, "books-2");
    assert_eq!(config.optimizer.learning_rate, 5e-4);
    assert_eq!(config.train.max_steps, Some(1000));
    assert_eq!(config.data.train[0].path, "my data/part=1/*.parquet");
    assert_eq!(config.data.cache, std::path::Path::new("quoted"));
    assert!(!config.model.unwrap().tie_word_embeddings);
    // Names that look like another type.
    assert_eq!(pretrain(&["run.name=2026-11-22"]).run.name, "2026-11-22");
    assert_eq!(pretrain(&["run.name=\"7\""]).run.name, "7");
}

#[test]
fn sections_lists_and_new_entries_can_be_set() {
    let config = pretrain(&[
        "data.train.1.path=more.parquet",
        "data.train.1.weight=0.25",
        "optimizer.groups.0.parameters=*.norm.weight",
        "start={kind=\"checkpoint\", from=\"checkpoints/old\"}",
        "model=",
    ]);
    assert_eq!(config.data.train.len(), 2);
    assert_eq!((config.data.train[1].path.as_str(), config.data.train[1].weight), ("more.parquet", 0.25));
    assert_eq!(config.optimizer.groups[0].parameters, "*.norm.weight");
    assert_eq!(config.start, StartSection::Checkpoint { from: "checkpoints/old".into() });
    assert_eq!(config.model, None);
}

#[test]
fn an_empty_value_takes_a_key_out_and_the_last_override_counts() {
    let config = pretrain(&["train.max_steps=", "train.max_tokens=300_000", "run.seed=3", "run.seed=5"]);
    assert_eq!((config.train.max_steps, config.max_steps()), (None, 74)); // 300,000 / 4096, rounded up
    assert_eq!(config.seed(), 5);
    assert_eq!(pretrain(&["data.train.0.kind="]).data.train[0].kind, crate::DataKind::Documents);
}

#[test]
fn an_unknown_key_is_the_same_error_as_in_the_file() {
    let errors = tiny("pretrain", &["train.max_step=4"]).unwrap_err().to_string();
    let expected = "--set train.max_step=4: train.max_step is not a key of [train]; hint: did you mean `max_steps`";
    assert_eq!(errors, expected);
    let errors = tiny("pretrain", &["optimizer.tokens_per_step=4"]).unwrap_err().to_string();
    assert!(errors.ends_with("is not a key of [optimizer]; hint: `tokens_per_step` belongs in [train]"), "{errors}");
}

#[test]
fn what_cannot_be_applied_is_named() {
    let cases = [
        ("train.max_steps", "must be key.path=value; hint: such as --set train.max_steps=100"),
        ("=4", "`` in key `` must be letters"),
        ("run..name=x", "`` in key `run..name` must be letters"),
        ("data.train.2.path=x", "index `2` is beyond the `1` entries of `train`; hint: use an index from 0 to 1"),
        ("data.train.first.path=x", "`first` must be an index of the list `train`"),
        ("run.name.first=x", "`name` is `\"tiny\"`, must be a section or a list"),
        ("data.train=[{path", "the value is not TOML: "),
        ("run.name=\"x", "the value is not TOML: "),
        ("train.max_tokens=", "there is no `train.max_tokens` to take out"),
        ("modle=", "there is no `modle` to take out"),
        ("data.train.0=", "there is no `data.train.0` to take out"),
    ];
    for (text, expected) in cases {
        let errors = refusals("pretrain", &[text]);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].starts_with(&format!("--set {text}: {expected}")), "{}", errors[0]);
    }
}

#[test]
fn a_text_that_looks_like_a_number_says_how_to_quote_it() {
    let expected = "run.name is `7`, must be a text; hint: put it in quotes, name = \"7\", or --set 'run.name=\"7\"'";
    assert_eq!(refusals("pretrain", &["run.name=7"]), [expected]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn any_override_gives_a_config_or_an_error(key in "[a-z._0-9]{0,12}", value in any::<String>()) {
        for prefix in ["", "data.train.0.", "train.", "schedule."] {
            if let Err(errors) = tiny("pretrain", &[&format!("{prefix}{key}={value}")]) {
                prop_assert!(!errors.errors().is_empty());
                prop_assert!(errors.to_string().contains("hint: "));
            }
        }
    }

    #[test]
    fn a_quoted_text_arrives_unchanged_and_survives_being_written(text in "\\PC{1,20}", seed in 0..i64::MAX as u64) {
        let quoted = toml::Value::String(text.clone());
        let config = pretrain(&[&format!("data.train.0.path={quoted}"), &format!("run.seed={seed}")]);
        prop_assert_eq!(&config.data.train[0].path, &text);
        let again = super::load_text("pretrain", &crate::to_toml(&config).unwrap()).unwrap().training();
        prop_assert_eq!(config, again);
    }

    #[test]
    fn numbers_survive_being_written(learning_rate in f64::MIN_POSITIVE..1.0, ratio in 0.0..=1.0) {
        let learning_rate = format!("optimizer.learning_rate={learning_rate:e}");
        let config = pretrain(&[&learning_rate, &format!("schedule.final_ratio={ratio}")]);
        let again = super::load_text("pretrain", &crate::to_toml(&config).unwrap()).unwrap().training();
        prop_assert_eq!(config, again);
    }
}

//! The configs that the project ships, found by walking `configs/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Loaded, load_as, load_text};
use crate::CorpusSection;

/// Every shipped config with its stage.
fn shipped() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut found = Vec::new();
    for set in fs::read_dir(root).unwrap() {
        for file in fs::read_dir(set.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            found.push((path.file_stem().unwrap().to_str().unwrap().to_owned(), path));
        }
    }
    found.sort();
    assert!(found.len() >= 10, "tiny and books have five stages each");
    found
}

/// The name in `[name]`, `[[name]]` or `name = ...`, and where it is in the line.
fn key_of(line: &str) -> Option<(usize, &str)> {
    let start = line.len() - line.trim_start_matches('[').len();
    let rest = &line[start..];
    let end = if start > 0 { rest.find(']')? } else { rest.find(" =")? };
    let name = &rest[..end];
    let is_key = |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter));
    (!name.is_empty() && is_key(name)).then_some((start, name))
}

/// A commented-out `#name = value`, with or without a space.
fn commented_key(line: &str) -> Option<&str> {
    let line = line.strip_prefix('#')?;
    key_of(line.strip_prefix(' ').unwrap_or(line)).map(|(_, name)| name)
}

#[test]
fn every_shipped_config_loads_and_survives_being_written() {
    for (stage, path) in shipped() {
        let config = load_as(&stage, &path, &[]).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
        let again =
            load_text(&stage, &config.to_toml()).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
        assert_eq!(config, again, "{}", path.display());
    }
}

#[test]
fn every_key_of_a_shipped_config_has_a_comment() {
    for (_, path) in shipped() {
        let text = fs::read_to_string(&path).unwrap();
        let mut explained = false;
        for line in text.lines() {
            let key = key_of(line).filter(|_| !line.starts_with('[')).map(|(_, name)| name).or(commented_key(line));
            if let Some(key) = key {
                assert!(explained, "{}: `{key}` has no comment", path.display());
            }
            // A run of commented-out keys shares the comment above it.
            explained = if commented_key(line).is_some() { explained } else { line.starts_with("# ") };
        }
    }
}

/// Every name that the messages about unknown keys can list is in each file of the stage, in use or commented out.
#[test]
fn every_key_of_a_stage_is_in_its_shipped_configs() {
    let sections: [(&str, &[&str]); 5] = [
        ("prepare", &["run", "corpus", "data.train.0", "tokenizer"]),
        (
            "pretrain",
            &["run", "data", "data.train.0", "start", "model", "train", "train.fake_quant", "optimizer", "schedule"],
        ),
        ("sft", &["run", "data", "data.train.0", "start", "train", "train.fake_quant", "optimizer", "schedule"]),
        (
            "distill",
            &[
                "run",
                "data",
                "data.train.0",
                "start",
                "model",
                "train",
                "train.fake_quant",
                "optimizer",
                "schedule",
                "teacher",
                "distill",
                "distill.hidden",
                "on_policy",
                "capture",
                "generate",
            ],
        ),
        ("export-model", &["run", "export", "export.importance", "data", "data.valid.0"]),
    ];
    for (stage, path) in shipped() {
        let text = fs::read_to_string(&path).unwrap();
        let named = |name: &str| {
            text.lines().any(|line| {
                let active = key_of(line).map(|(_, key)| key);
                active.or(commented_key(line)).is_some_and(|key| key.split('.').any(|part| part == name))
            })
        };
        let (_, sections) = sections.iter().find(|(name, _)| *name == stage).unwrap();
        for section in *sections {
            for name in known_names(&stage, &path, section) {
                assert!(named(&name), "{}: `{name}` of {section} is not mentioned", path.display());
            }
        }
    }
}

/// The names that are listed when a key of `section` is nothing like any of them.
fn known_names(stage: &str, path: &Path, section: &str) -> Vec<String> {
    let errors = load_as(stage, path, &[format!("{section}.zzzzzz=1")]).unwrap_err().to_string();
    // A shipped config without the section cannot list its keys: `books/prepare` has no corpus.
    let Some((_, list)) = errors.split_once("hint: there are ") else { return Vec::new() };
    list.lines().next().unwrap().split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
}

#[test]
fn commented_out_keys_show_valid_values_and_true_defaults() {
    // What these stand for is derived from other keys, from a tokenizer, or from the device.
    let derived = ["tokenizer", "vocab_size", "max_position_embeddings", "micro_batch_size", "column", "precision"];
    for (stage, path) in shipped() {
        let text = fs::read_to_string(&path).unwrap();
        let config = load_text(&stage, &text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let mut in_example = false;
        for (index, line) in lines.iter().enumerate() {
            in_example = (in_example || line.starts_with("#[")) && !line.is_empty();
            let Some(key) = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).and_then(key_of) else {
                continue;
            };
            if in_example {
                continue;
            }
            let loaded = load_text(&stage, &with_line(&text, index, &line[1..]));
            let loaded = loaded.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
            assert!(derived.contains(&key.1) || loaded == config, "{}: {line} is no default", path.display());
        }
        let all: Vec<&str> = lines.iter().map(|line| uncommented(line)).collect();
        load_text(&stage, &all.join("\n")).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
    }
}

fn uncommented(line: &str) -> &str {
    line.strip_prefix('#').filter(|rest| rest.starts_with('[') || key_of(rest).is_some()).unwrap_or(line)
}

/// Drops a letter, doubles one, or swaps two neighbours, in every way.
fn typos(name: &str) -> BTreeSet<String> {
    let mut typos = BTreeSet::new();
    for index in 0..name.len() {
        typos.insert(format!("{}{}", &name[..index], &name[index + 1..]));
        typos.insert(format!("{}{}", &name[..=index], &name[index..]));
        if index + 1 < name.len() {
            let mut letters: Vec<char> = name.chars().collect();
            letters.swap(index, index + 1);
            typos.insert(letters.into_iter().collect());
        }
    }
    typos.remove(name);
    typos
}

#[test]
fn every_misspelt_key_is_refused_with_its_right_name() {
    let mut tried = 0;
    for (stage, path) in shipped() {
        let text = fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            let Some((start, key)) = key_of(line) else { continue };
            let name_start = start + key.rfind('.').map_or(0, |dot| dot + 1);
            let name = &line[name_start..start + key.len()];
            for typo in typos(name) {
                let edited = format!("{}{typo}{}", &line[..name_start], &line[start + key.len()..]);
                let message = load_text(&stage, &with_line(&text, index, &edited)).expect_err(&edited).to_string();
                let named = message.contains(&format!("`{name}`"));
                assert!(named, "{}:{}: {edited}: {message}", path.display(), index + 1);
                tried += 1;
            }
        }
    }
    assert!(tried > 3000, "{tried}");
}

#[test]
fn the_tiny_chain_hands_its_files_from_stage_to_stage() {
    let tiny = |stage: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../configs/tiny/{stage}.toml"));
        load_as(stage, &path, &[]).unwrap()
    };
    let Loaded::Prepare(prepare) = tiny("prepare") else { panic!() };
    let Some(CorpusSection::Tiny { path: corpus, .. }) = prepare.corpus else { panic!() };
    assert_eq!(corpus, Path::new("data/tiny"));
    for stage in ["pretrain", "sft", "distill"] {
        let Loaded::Training(config) = tiny(stage) else { panic!() };
        for entry in config.data.train.iter().chain(&config.data.valid) {
            assert!(Path::new(&entry.path).starts_with(&corpus), "{}", entry.path);
        }
        if let Some(tokenizer) = config.data.tokenizer {
            assert_eq!(tokenizer, prepare.tokenizer.path.join("tokenizer.json"));
        }
        if let Some(model) = config.model {
            let shape = model.resolve(prepare.tokenizer.vocab_size.unwrap(), config.data.sequence_length).unwrap();
            // Summed by hand from the shapes of the tensors.
            assert_eq!(shape.parameter_count(), if stage == "pretrain" { 918_912 } else { 213_632 });
        }
    }
}

/// An active `name = value` with its line's index.
fn settings(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('['));
    lines.filter_map(|(index, line)| Some((index, key_of(line)?.1)))
}

/// The text with another line in place of one.
fn with_line(text: &str, index: usize, line: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines[index] = line;
    lines.join("\n")
}

#[test]
fn a_key_that_is_taken_out_has_a_default_or_is_reported_missing() {
    let (mut optional, mut required) = (0, 0);
    for (stage, path) in shipped() {
        let text = fs::read_to_string(&path).unwrap();
        for (index, name) in settings(&text) {
            match load_text(&stage, &with_line(&text, index, "")) {
                Ok(_) => optional += 1,
                Err(errors) => {
                    assert!(errors.to_string().contains(&format!(".{name} is missing, ")), "{name}: {errors}");
                    required += 1;
                }
            }
        }
    }
    assert!(optional > 20 && required > 60, "{optional} {required}");
}

#[test]
fn a_section_in_place_of_a_value_is_refused_at_its_line() {
    for (stage, path) in shipped() {
        let text = fs::read_to_string(&path).unwrap();
        for (index, name) in settings(&text) {
            let errors = load_text(&stage, &with_line(&text, index, &format!("{name} = {{ zzz = 1 }}"))).unwrap_err();
            let errors = errors.to_string();
            assert!(errors.contains(&format!(":{}: ", index + 1)), "{name}: {errors}");
            assert!(errors.contains(&format!(".{name} is `{{ zzz = 1 }}`, must be ")), "{name}: {errors}");
        }
    }
}

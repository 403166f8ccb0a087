//! A student with some of its teacher's tokens: the teacher's distribution over them, and the stages with such a student.

use limbeck_config::Architecture;
use limbeck_data::Tokenizer;
use limbeck_model::{Cut, Transformer, fingerprint};
use limbeck_train::kept_mass;
use serde_json::Value;

use crate::support::batches::{batch, documents};
use crate::support::devices::cpu;
use crate::support::distance::{max_abs, values};
use crate::support::files::{hashes, names};
use crate::support::models::small;
use crate::support::outcome::Outcome;
use crate::support::sandbox::{SFT, Sandbox};

/// A model whose distributions are far from even.
fn teacher(architecture: Architecture) -> anyhow::Result<Transformer> {
    let config = small(architecture);
    let mut tensors = limbeck_model::parameters(&Transformer::new(&config, 9, &cpu()));
    tensors.values_mut().filter(|tensor| tensor.shape.len() == 2).for_each(|tensor| {
        tensor.values.iter_mut().for_each(|value| *value *= 15.0);
    });
    Ok(limbeck_model::load_parameters(Transformer::zeros(&config, &cpu()), tensors)?)
}

/// Every third of the teacher's ids, in no order.
fn kept(vocab_size: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..vocab_size as u32).filter(|id| id % 3 == 1).collect();
    ids.reverse();
    ids.rotate_left(4);
    ids
}

/// In 64 bits.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[test]
fn the_gathered_teacher_is_the_teacher_given_that_the_next_token_is_kept() -> anyhow::Result<()> {
    for architecture in [Architecture::Qwen3, Architecture::Llama, Architecture::Qwen2] {
        let teacher = teacher(architecture)?;
        let vocab_size = teacher.config().vocab_size;
        let ids = kept(vocab_size);
        let gathered = Cut::to_tokens(teacher.config(), &ids).apply(&teacher, &cpu())?;
        assert_eq!(gathered.config().vocab_size, ids.len());
        let student = documents(3, 3, 17, ids.len());
        let to_teacher = |tokens: &[u32]| tokens.iter().map(|id| ids[*id as usize]).collect::<Vec<u32>>();
        let whole = batch(to_teacher(&student.inputs), to_teacher(&student.targets), 17);
        let logits = |model: &Transformer, batch: &limbeck_data::Batch| {
            values(model.logits(&batch.inputs, &batch.positions, batch.sequence_length))
        };
        let (found, full) = (logits(&gathered, &student), logits(&teacher, &whole));
        let mut mass = 0.0;
        for (found, full) in found.chunks(ids.len()).zip(full.chunks(vocab_size)) {
            let probabilities = softmax(full);
            let kept: Vec<f64> = ids.iter().map(|id| probabilities[*id as usize]).collect();
            let all: f64 = kept.iter().sum();
            mass += all / student.inputs.len() as f64;
            let expected: Vec<f32> = kept.iter().map(|probability| (probability / all) as f32).collect();
            let found: Vec<f32> = softmax(found).into_iter().map(|probability| probability as f32).collect();
            // The same sums of 32-bit products.
            assert!(max_abs(&found, &expected) < 1e-6, "{architecture:?}: {}", max_abs(&found, &expected));
        }
        let probe = kept_mass(&teacher, &ids, &student);
        assert_eq!(probe.targets, student.inputs.len());
        assert!((probe.mean - mass).abs() < 1e-5, "{} is not {mass}", probe.mean);
        assert!(mass > 0.05 && mass < 0.95, "{mass}");
        // All of them in their order are the teacher, whose logits a cache may be of; some are another teacher.
        let everything: Vec<u32> = (0..vocab_size as u32).collect();
        let same = Cut::to_tokens(teacher.config(), &everything).apply(&teacher, &cpu())?;
        assert_eq!(fingerprint(&same), fingerprint(&teacher));
        assert_ne!(fingerprint(&gathered), fingerprint(&teacher));
        assert!((kept_mass(&teacher, &everything, &whole).mean - 1.0).abs() < 1e-6);
    }
    Ok(())
}

/// A teacher, and its tokenizer restricted to 350 entries in `data/small`.
fn restricted() -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let outcome = restrict(&sandbox, "350")?;
    outcome.says(&["prepare: kept 350 of 420 entries, which are "])?;
    assert_eq!(outcome.complete()?, "data/small");
    Ok(sandbox)
}

fn restrict(sandbox: &Sandbox, vocab_size: &str) -> anyhow::Result<Outcome> {
    let size = format!("tokenizer.vocab_size={vocab_size}");
    let from = format!("tokenizer.from={SFT}");
    let sets = ["corpus=", "tokenizer.kind=restrict", &from, "tokenizer.path=data/small", &size];
    sandbox.stage("prepare", &sets.into_iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>())
}

const SMALL: &str = "data.tokenizer=data/small/tokenizer.json";

fn distill(sandbox: &Sandbox, arguments: &[&str], sets: &[&str]) -> anyhow::Result<Outcome> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    sandbox.stage("distill", &arguments.iter().copied().chain(sets).collect::<Vec<_>>())
}

#[test]
fn a_student_of_fewer_tokens_learns_from_the_teacher_and_from_its_logits() -> anyhow::Result<()> {
    let sandbox = restricted()?;
    let online = distill(&sandbox, &["--out", "online"], &[SMALL])?;
    online.says(&["teacher: 350 of its 420 tokens are the student's, on which it puts ", " % of the mass ("])?;
    let step = online.complete()?;
    let config: Value = serde_json::from_str(&sandbox.read(&format!("{step}/config.json"))?)?;
    assert_eq!(config["vocab_size"], 350);
    assert_eq!(Tokenizer::load(sandbox.path(&step))?.vocab_size(), 350);
    let (cache, full) = ("teacher.logits=cache", "capture.codec={kind=\"full\"}");
    distill(&sandbox, &["--capture"], &[SMALL, cache, full])?.complete()?;
    distill(&sandbox, &["--out", "cached"], &[SMALL, cache])?.complete()?;
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let read = |run: &str| std::fs::read(sandbox.path(run).join("step-00000012").join(file));
        assert_eq!(read("online")?, read("cached")?, "{file}");
    }
    // The logits over fewer tokens are not those over all.
    let refused = distill(&sandbox, &["--out", "refused"], &[cache])?;
    refused.refused(2, &["logits cache `cache` has identity.tokenizer `", "another tokenizer", "hint: "])?;
    // Other programs read the student.
    let export = format!("export.from={step}");
    sandbox.stage("export-model", &["--set", &export])?.complete()?;
    Ok(())
}

#[test]
fn a_student_can_be_cut_to_fewer_tokens_and_blocks_at_once() -> anyhow::Result<()> {
    let sandbox = restricted()?;
    let start = format!("start={{kind=\"prune\", from=\"{SFT}\", num_hidden_layers=1}}");
    let outcome = distill(&sandbox, &["--out", "cut"], &[SMALL, &start, "model="])?;
    outcome.says(&["prune: blocks: 2 to 1", "prune: tokens: 420 to 350"])?;
    outcome.complete()?;
    let report: Value = serde_json::from_str(&sandbox.read("cut/prune.json")?)?;
    assert_eq!((&report["vocab_size"]["before"], &report["vocab_size"]["after"]), (&420.into(), &350.into()));
    // The tokens alone.
    let start = format!("start={{kind=\"prune\", from=\"{SFT}\"}}");
    let outcome = distill(&sandbox, &["--out", "tokens"], &[SMALL, &start, "model="])?;
    outcome.says(&["prune: tokens: 420 to 350"])?;
    outcome.complete()?;
    let report: Value = serde_json::from_str(&sandbox.read("tokens/prune.json")?)?;
    assert_eq!(report["loss_nats"]["before"], report["loss_nats"]["after"]);
    Ok(())
}

#[test]
fn an_unchanged_restriction_is_not_made_again_but_that_of_another_tokenizer_is() -> anyhow::Result<()> {
    let sandbox = restricted()?;
    let before = hashes(&sandbox.path("data/small"))?;
    restrict(&sandbox, "350")?.says(&["prepare: already complete"])?;
    assert_eq!(hashes(&sandbox.path("data/small"))?, before);
    let sets = ["--set", "corpus=", "--set", "tokenizer.vocab_size=400", "--set", "tokenizer.path=data/other"];
    sandbox.stage("prepare", &sets)?.complete()?;
    for step in ["step-00000008", "step-00000012"] {
        std::fs::remove_dir_all(sandbox.path(SFT).join(step))?;
    }
    for file in names(&sandbox.path("data/other"))? {
        std::fs::copy(sandbox.path("data/other").join(&file), sandbox.path(SFT).join(&file))?;
    }
    restrict(&sandbox, "350")?.says(&["prepare: kept 350 of 400 entries"])?;
    assert_ne!(hashes(&sandbox.path("data/small"))?, before);
    Ok(())
}

//! Where training starts, that it learns, and the loss head that it learns from.

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use limbeck_config::{Architecture, ModelConfig, OptimizerSection, PrepareConfig, TrainingStage, load, load_training};
use limbeck_kernels::{Precision, loss_head, loss_head_value};
use limbeck_loss::{cross_entropy, cross_entropy_sum};
use limbeck_model::Transformer;
use limbeck_train::{AdamW, NextToken, Trainer, next_token_loss};

use crate::support::batches::documents;
use crate::support::devices::cpu;
use crate::support::distance::{relative_l2, values};
use crate::support::models::small;
use crate::support::numbers::Numbers;

#[test]
fn overfitting_two_documents_reaches_a_loss_under_a_hundredth() -> anyhow::Result<()> {
    for architecture in [Architecture::Qwen3, Architecture::Llama] {
        let config = small(architecture);
        // Their first tokens differ: a shared one would leave the second token undecided.
        let batch = documents(2, 2, 23, config.vocab_size);
        assert_ne!(batch.inputs[0], batch.inputs[23]);
        let settings = OptimizerSection { weight_decay: 0.0, ..OptimizerSection::new(1e-2) };
        let model = Transformer::new(&config, 1, &cpu().autodiff());
        let mut trainer = Trainer::new(model, AdamW::new(&settings)?);
        let mut loss_nats = f32::INFINITY;
        for step in 1..=300 {
            let report;
            (trainer, report) = trainer.step(&NextToken, std::slice::from_ref(&batch), step, 1.0)?;
            loss_nats = report.loss_nats;
        }
        assert!(loss_nats < 0.01, "{architecture:?}: {loss_nats}");
    }
    Ok(())
}

#[test]
fn the_first_loss_is_the_logarithm_of_the_vocabulary() -> anyhow::Result<()> {
    for set in ["tiny", "books"] {
        for stage in [TrainingStage::Pretrain, TrainingStage::Distill] {
            let config = shape(set, stage)?;
            let batch = documents(4, 4, 67, config.vocab_size);
            let model = Transformer::new(&config, 0, &cpu().autodiff());
            let loss = values(next_token_loss((&model).into(), &batch).loss_sum)[0] / batch.target_tokens() as f32;
            let ratio = loss / (config.vocab_size as f32).ln();
            assert!((ratio - 1.0).abs() < 0.02, "{set} {}: {loss} nats, {ratio}", stage.name());
        }
    }
    Ok(())
}

/// The model that `stage` of a shipped config set trains.
fn shape(set: &str, stage: TrainingStage) -> anyhow::Result<ModelConfig> {
    let file = |stage: &str| -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(set).join(stage).with_extension("toml")
    };
    let prepare: PrepareConfig = load(&file("prepare"), &[])?;
    let vocab_size = prepare.tokenizer.vocab_size.context("a trained tokenizer has a size")?;
    let config = load_training(stage, &file(stage.name()), &[])?;
    let section = config.model.context("the stage starts from random weights")?;
    section.resolve(vocab_size, config.data.sequence_length).map_err(|problems| anyhow::anyhow!("{problems:?}"))
}

/// So many that 13 rows are a chunk.
const VOCAB_SIZE: usize = 300_007;
const HIDDEN_SIZE: usize = 6;
/// More than two chunks, the last one short.
const ROWS: usize = 29;

struct Head {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
}

fn head() -> Head {
    let device = cpu().autodiff();
    let mut numbers = Numbers::new(8);
    let mut random = |rows: usize| {
        let data = TensorData::new(numbers.uniform(rows * HIDDEN_SIZE), [rows, HIDDEN_SIZE]);
        Tensor::<2>::from_data(data, &device).require_grad()
    };
    let (hidden, weight) = (random(ROWS), random(VOCAB_SIZE));
    let targets: Vec<i32> = numbers.tokens(ROWS, VOCAB_SIZE).into_iter().map(|token| token as i32).collect();
    Head { hidden, weight, targets: Tensor::from_data(TensorData::new(targets, [ROWS]), &cpu()) }
}

/// A loss with its gradients by hidden states and weights.
struct Outcome {
    loss: f32,
    gradients: [Vec<f32>; 2],
}

fn outcome(head: Head, loss: Tensor<1>, backward: Tensor<1>) -> Outcome {
    let gradients = backward.backward();
    let of = |tensor: &Tensor<2>| values(tensor.grad(&gradients).expect("the loss depends on it"));
    Outcome { loss: values(loss)[0], gradients: [of(&head.hidden), of(&head.weight)] }
}

#[test]
fn the_chunked_loss_head_is_log_softmax_over_all_rows_at_once() {
    let whole = head();
    let logits = whole.hidden.clone().matmul(whole.weight.clone().transpose()); // [rows, vocab_size]
    let targets = Tensor::<1, Int>::from_data(whole.targets.to_data(), &cpu().autodiff()).unsqueeze_dim(1);
    let loss = log_softmax(logits, 1).gather(1, targets).sum().neg();
    let expected = outcome(whole, loss.clone().inner(), loss);

    let chunked = head();
    let mut chunks = Vec::new();
    let loss = loss_head(chunked.hidden.clone(), chunked.weight.clone(), Precision::Fp32, |logits, rows| {
        assert_eq!(logits.dims(), [rows.len(), VOCAB_SIZE]);
        chunks.push(rows.clone());
        cross_entropy(logits, chunked.targets.clone().narrow(0, rows.start, rows.len()))
    });
    assert_eq!(chunks, [0..13, 13..26, 26..29], "no chunk has the logits of all rows");
    let actual = outcome(chunked, loss.loss_sum, loss.surrogate);

    // Sums over 300,007 entries in another order: each row's normalizer rounds differently.
    assert!((actual.loss / expected.loss - 1.0).abs() < 1e-6, "{} against {}", actual.loss, expected.loss);
    for (actual, expected) in actual.gradients.iter().zip(&expected.gradients) {
        let distance = relative_l2(actual, expected);
        assert!(distance < 1e-5, "{distance}");
    }
}

#[test]
fn the_value_of_the_loss_head_is_its_loss() {
    let head = head();
    let targets = |rows: std::ops::Range<usize>| head.targets.clone().narrow(0, rows.start, rows.len());
    let trained = loss_head(head.hidden.clone(), head.weight.clone(), Precision::Fp32, |logits, rows| {
        cross_entropy(logits, targets(rows))
    });
    let alone = loss_head_value(head.hidden.clone(), head.weight.clone(), Precision::Fp32, |logits, rows| {
        cross_entropy_sum(logits, targets(rows))
    });
    assert_eq!(values(alone.expect("there are rows")), values(trained.loss_sum));
}

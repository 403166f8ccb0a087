//! The split into micro-batches changes neither the gradients nor the update.

use burn::tensor::Tensor;
use limbeck_config::{Architecture, OptimizerSection};
use limbeck_data::Batch;
use limbeck_model::{HostTensor, NamedTensors, Transformer, parameters};
use limbeck_train::{AdamW, NextToken, StepGradients, Trainer};

use crate::support::batches::documents;
use crate::support::devices::cpu;
use crate::support::distance::{farthest, named, values};
use crate::support::models::small;

const ROWS: usize = 8;
const SEQUENCE_LENGTH: usize = 101;
/// Targets that count in each row.
const TARGETS: [usize; ROWS] = [1, 100, 7, 58, 2, 33, 91, 13];

/// What sums in another order may differ by, relative L2: 16 roundings of 32-bit floats.
const TOLERANCE: f64 = 1e-6;

fn trainer() -> anyhow::Result<Trainer> {
    let model = Transformer::new(&small(Architecture::Qwen3), 5, &cpu().autodiff());
    Ok(Trainer::new(model, AdamW::new(&OptimizerSection::new(1e-3))?))
}

fn uneven_batch() -> Batch {
    let batch = documents(17, ROWS, SEQUENCE_LENGTH, small(Architecture::Qwen3).vocab_size);
    let loss_mask = TARGETS.iter().flat_map(|count| (0..SEQUENCE_LENGTH).map(move |token| token < *count)).collect();
    Batch { loss_mask, ..batch }
}

fn gradients(trainer: &Trainer, micro_batches: &[Batch]) -> anyhow::Result<NamedTensors> {
    Ok(named(&trainer.model, &trainer.gradients(&NextToken, micro_batches)?.model))
}

/// `weights + factor * direction`.
fn moved(weights: &NamedTensors, factor: f32, direction: &NamedTensors) -> NamedTensors {
    let moved = |(name, tensor): (&String, &HostTensor)| {
        let values = tensor.values.iter().zip(&direction[name].values).map(|(weight, by)| weight + factor * by);
        (name.clone(), HostTensor { shape: tensor.shape.clone(), values: values.collect() })
    };
    weights.iter().map(moved).collect()
}

#[test]
fn micro_batches_give_the_gradients_and_the_sgd_step_of_the_whole_batch() -> anyhow::Result<()> {
    let (trainer, batch) = (trainer()?, uneven_batch());
    let whole = gradients(&trainer, std::slice::from_ref(&batch))?;
    let weights = parameters(&trainer.model);
    for size in [4, 1] {
        let micro_batches = batch.micro_batches(size);
        assert_eq!(micro_batches.len(), ROWS / size);
        let split = gradients(&trainer, &micro_batches)?;
        let (name, distance) = farthest(&split, &whole);
        assert!(distance < TOLERANCE, "{size}: gradient of {name} {distance}");
        let (name, distance) = farthest(&moved(&weights, -0.5, &split), &moved(&weights, -0.5, &whole));
        assert!(distance < TOLERANCE, "{size}: {name} after the step {distance}");
    }
    Ok(())
}

#[test]
fn micro_batches_give_the_loss_of_the_whole_batch() -> anyhow::Result<()> {
    let (trainer, batch) = (trainer()?, uneven_batch());
    let loss = |micro_batches: &[Batch]| -> anyhow::Result<f32> {
        let StepGradients { loss_sum, target_tokens, .. } = trainer.gradients(&NextToken, micro_batches)?;
        assert_eq!(target_tokens, TARGETS.iter().sum::<usize>());
        let loss_sum: Tensor<1> = loss_sum.expect("there are targets");
        Ok(values(loss_sum)[0] / target_tokens as f32)
    };
    let whole = loss(std::slice::from_ref(&batch))?;
    for size in [4, 1] {
        let distance = (loss(&batch.micro_batches(size))? / whole - 1.0).abs();
        assert!(f64::from(distance) < TOLERANCE, "{size}: {distance}");
    }
    Ok(())
}

#[test]
fn the_mean_of_micro_batch_means_is_another_gradient() -> anyhow::Result<()> {
    let (trainer, batch) = (trainer()?, uneven_batch());
    let whole = gradients(&trainer, std::slice::from_ref(&batch))?;
    for size in [4, 1] {
        let micro_batches = batch.micro_batches(size);
        let zero = moved(&whole, -1.0, &whole);
        let mean = micro_batches.iter().try_fold(zero, |sum, micro_batch| {
            let own = gradients(&trainer, std::slice::from_ref(micro_batch))?;
            anyhow::Ok(moved(&sum, 1.0 / micro_batches.len() as f32, &own))
        })?;
        let (name, distance) = farthest(&mean, &whole);
        assert!(distance > 1e-2, "{size}: {name} {distance}");
    }
    Ok(())
}

//! `train.recompute`: blocks that the backward pass computes again.

use limbeck_config::{Architecture, ModelConfig, OptimizerSection, Recompute};
use limbeck_data::Batch;
use limbeck_model::{NamedTensors, Transformer};
use limbeck_train::{AdamW, NextToken, Trainer};

use crate::support::batches::{documents, positions};
use crate::support::devices::cpu;
use crate::support::distance::{named, values};
use crate::support::files::hashes;
use crate::support::models::small;
use crate::support::sandbox::{Sandbox, TEACHER};

const ROWS: usize = 4;
const SEQUENCE_LENGTH: usize = 31;

/// Several documents in each row; every third target counts.
fn packed(vocab_size: usize) -> Batch {
    let batch = documents(23, ROWS, SEQUENCE_LENGTH, vocab_size);
    let loss_mask = (0..ROWS * SEQUENCE_LENGTH).map(|row| row % 3 == 1).collect();
    Batch { loss_mask, positions: positions(&[[9, 1, 21]; ROWS].concat()), ..batch }
}

/// Gradients of the mean loss, and the sum of the losses.
fn gradients(
    shape: &ModelConfig,
    recompute: Recompute,
    micro_batches: &[Batch],
) -> anyhow::Result<(NamedTensors, f32)> {
    let model = Transformer::new(shape, 5, &cpu().autodiff());
    let trainer = Trainer { recompute, ..Trainer::new(model, AdamW::new(&OptimizerSection::new(1e-3))?) };
    let gradients = trainer.gradients(&NextToken, micro_batches)?;
    let loss_sum = gradients.loss_sum.map_or(f32::NAN, |sum| values(sum)[0]);
    Ok((named(&trainer.model, &gradients.model), loss_sum))
}

#[test]
fn every_gradient_is_the_same_bit_for_bit() -> anyhow::Result<()> {
    for architecture in [Architecture::Qwen3, Architecture::Llama, Architecture::Qwen2] {
        let shape = ModelConfig { num_hidden_layers: 3, ..small(architecture) };
        for rows in [ROWS, 1] {
            let batches = packed(shape.vocab_size).micro_batches(rows);
            let kept = gradients(&shape, Recompute::None, &batches)?;
            assert_eq!(gradients(&shape, Recompute::Block, &batches)?, kept, "{architecture:?}, {rows}");
        }
    }
    Ok(())
}

#[test]
fn a_run_writes_the_same_model_and_optimizer() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    sandbox.stage("pretrain", &["--out", "again", "--set", "train.recompute=block"])?.complete()?;
    let (kept, again) = (hashes(&sandbox.path(TEACHER))?, hashes(&sandbox.path("again"))?);
    let tensors = |name: &String| name.ends_with(".safetensors");
    assert!(kept.keys().filter(|name| tensors(name)).count() >= 2, "{kept:?}");
    for (name, hash) in kept.iter().filter(|(name, _)| tensors(name)) {
        assert_eq!(again.get(name), Some(hash), "{name}");
    }
    Ok(())
}

//! Parts that contribute nothing go, and nothing else changes.

use anyhow::Context;
use limbeck_config::{Architecture, ModelConfig};
use limbeck_data::Batch;
use limbeck_model::{BlockCut, Cut, NamedTensors, Transformer, load_parameters, parameters};
use limbeck_train::{PruneReport, Pruned, prune};

use crate::support::batches::documents;
use crate::support::devices::cpu;
use crate::support::distance::{max_abs, values};
use crate::support::models::small;
use crate::support::numbers::Numbers;

/// The block, the channels and, in each other block, the neurons and heads of which [`with_dead_parts`] makes nothing.
const DEAD_BLOCK: usize = 2;
const DEAD_CHANNELS: [usize; 4] = [0, 7, 19, 25];
/// By block: half of them never fire, half of them are not read.
const DEAD_NEURONS: [[usize; 3]; 4] = [[1, 8, 45], [0, 30, 31], [5, 6, 7], [12, 13, 44]];
/// By block: a whole group, two query heads with one key-value head, and then one head of each other group.
const DEAD_HEADS: [[usize; 4]; 4] = [[0, 1, 3, 4], [2, 3, 0, 5], [0, 1, 2, 3], [4, 5, 1, 2]];

fn shape(architecture: Architecture) -> ModelConfig {
    ModelConfig { num_hidden_layers: 4, ..small(architecture) }
}

/// What is left of [`shape`] without the dead parts: one of two query heads of two of three groups.
fn alive(whole: &ModelConfig) -> ModelConfig {
    ModelConfig {
        num_hidden_layers: 3,
        hidden_size: whole.hidden_size - DEAD_CHANNELS.len(),
        intermediate_size: whole.intermediate_size - 3,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        ..whole.clone()
    }
}

fn fill(tensors: &mut NamedTensors, name: &str, rows: &[usize], columns: &[usize]) {
    let tensor = tensors.get_mut(name).unwrap_or_else(|| panic!("{name}"));
    let width = tensor.shape[1];
    for (place, value) in tensor.values.iter_mut().enumerate() {
        if rows.contains(&(place / width)) || columns.contains(&(place % width)) {
            *value = 0.0;
        }
    }
}

/// A model parts of which contribute nothing. Activations are of the size of 1, beside which the norms' epsilon is nothing.
fn with_dead_parts(architecture: Architecture) -> anyhow::Result<Transformer> {
    let config = shape(architecture);
    let mut tensors = parameters(&Transformer::new(&config, 5, &cpu()));
    let mut numbers = Numbers::new(6);
    for tensor in tensors.values_mut() {
        match tensor.shape.len() {
            1 => tensor.values.iter_mut().zip(numbers.uniform(tensor.shape[0])).for_each(|(v, u)| *v += u / 2.0),
            _ => tensor.values.iter_mut().for_each(|value| *value *= 12.0),
        }
    }
    fill(&mut tensors, "model.embed_tokens.weight", &[], &DEAD_CHANNELS);
    for block in 0..config.num_hidden_layers {
        let name = |parameter: &str| format!("model.layers.{block}.{parameter}.weight");
        fill(&mut tensors, &name("self_attn.o_proj"), &DEAD_CHANNELS, &[]);
        fill(&mut tensors, &name("mlp.down_proj"), &DEAD_CHANNELS, &DEAD_NEURONS[block][..1]);
        fill(&mut tensors, &name("mlp.up_proj"), &DEAD_NEURONS[block][1..], &[]);
        let dims = |head: &usize| head * config.head_dim..(head + 1) * config.head_dim;
        let unread: Vec<usize> = DEAD_HEADS[block].iter().flat_map(dims).collect();
        fill(&mut tensors, &name("self_attn.o_proj"), &[], &unread);
    }
    for matrix in ["self_attn.o_proj", "mlp.down_proj"] {
        let name = format!("model.layers.{DEAD_BLOCK}.{matrix}.weight");
        tensors.get_mut(&name).context("a matrix")?.values.fill(0.0);
    }
    Ok(load_parameters(Transformer::zeros(&config, &cpu()), tensors)?)
}

fn logits(model: &Transformer, batch: &Batch) -> Vec<f32> {
    values(model.logits(&batch.inputs, &batch.positions, batch.sequence_length))
}

/// The largest difference of the logits, over the largest logit.
fn difference(one: &Transformer, other: &Transformer, batch: &Batch) -> f64 {
    let expected = logits(one, batch);
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    max_abs(&logits(other, batch), &expected) / f64::from(largest)
}

fn most_likely(model: &Transformer, batch: &Batch) -> Vec<u32> {
    let best = |row: &[f32]| (0..row.len()).max_by(|one, other| row[*one].total_cmp(&row[*other])).unwrap_or(0) as u32;
    logits(model, batch).chunks(model.config().vocab_size).map(best).collect()
}

#[test]
fn what_contributes_nothing_is_what_goes_and_the_logits_stay() -> anyhow::Result<()> {
    for architecture in [Architecture::Qwen3, Architecture::Llama, Architecture::Qwen2] {
        let teacher = with_dead_parts(architecture)?;
        let config = teacher.config().clone();
        let mut calibration = documents(7, 4, 23, config.vocab_size);
        // What the teacher says itself: whatever changes it makes this likely less.
        calibration.targets = most_likely(&teacher, &calibration);
        let batches = calibration.micro_batches(2);
        let Pruned { model, report } = prune(&teacher, None, &alive(&config), &batches, &cpu(), &mut |_| ())?;
        assert_eq!(model.config(), &alive(&config));
        let other = documents(8, 3, 31, config.vocab_size);
        // 32-bit sums over fewer terms, and an epsilon that counts for fewer channels.
        let difference = difference(&teacher, &model, &other);
        assert!(difference < 1e-5, "{architecture:?}: {difference}");
        assert_found(&report, &config);
    }
    Ok(())
}

/// The report names exactly the dead parts.
fn assert_found(report: &PruneReport, whole: &ModelConfig) {
    assert_eq!(report.removed.removed.iter().map(|removed| removed.block).collect::<Vec<_>>(), [DEAD_BLOCK]);
    assert_eq!(report.removed.loss_without_nats.len(), 4);
    assert!((report.removed.loss_without_nats[DEAD_BLOCK] - report.loss_nats.before).abs() < 1e-6);
    assert_eq!(report.channels.dropped, DEAD_CHANNELS);
    assert_eq!(report.channels.dropped_share, 0.0);
    assert_eq!(report.blocks.iter().map(|block| block.block).collect::<Vec<_>>(), [0, 1, 3]);
    for block in &report.blocks {
        let mut heads = DEAD_HEADS[block.block];
        heads.sort_unstable();
        assert_eq!((&block.dropped_heads[..], block.dropped_heads_share), (&heads[..], 0.0));
        assert_eq!((block.neurons.before, block.neurons.after), (46, 43));
        assert_eq!(block.dropped_neurons_share, 0.0);
    }
    assert!((report.loss_nats.after - report.loss_nats.before).abs() < 1e-5);
    assert_eq!(report.parameters.before, whole.parameter_count());
    assert_eq!(report.parameters.after, alive(whole).parameter_count());
}

#[test]
fn without_something_that_counts_the_logits_are_others() -> anyhow::Result<()> {
    let teacher = with_dead_parts(Architecture::Llama)?;
    let config = teacher.config().clone();
    let batch = documents(8, 3, 31, config.vocab_size);
    let without = |change: &dyn Fn(&mut Cut)| -> anyhow::Result<f64> {
        let mut cut = Cut::nothing(&config);
        change(&mut cut);
        Ok(difference(&teacher, &cut.apply(&teacher, &cpu())?, &batch))
    };
    assert_eq!(without(&|_| ())?, 0.0);
    assert_eq!(without(&|cut| drop(cut.blocks.remove(DEAD_BLOCK)))?, 0.0);
    assert!(without(&|cut| drop(cut.blocks.remove(1)))? > 1e-3);
    let each = |cut: &mut Cut, change: fn(&mut BlockCut)| cut.blocks.iter_mut().for_each(change);
    assert!(without(&|cut| each(cut, |block| _ = block.neurons.remove(20)))? > 1e-3);
    assert!(without(&|cut| _ = cut.channels.remove(3))? > 1e-3);
    // Dead channels alone, without what their norms need.
    assert!(without(&|cut| cut.channels.retain(|channel| !DEAD_CHANNELS.contains(channel)))? > 1e-3);
    Ok(())
}

//! AdamW in the trainer: in place, resumable bit for bit, with groups by name.

use std::collections::BTreeMap;

use burn::backend::Flex;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use limbeck_config::{Architecture, OptimizerSection, ParameterGroup};
use limbeck_model::{NamedTensors, Transformer, load_parameters, parameters};
use limbeck_train::{AdamW, GroupSettings, NextToken, StepReport, Trainer};

use crate::support::batches::documents;
use crate::support::devices::cpu;
use crate::support::models::small;

const EMBEDDING: &str = "model.embed_tokens.weight";

fn trainer(settings: &OptimizerSection) -> anyhow::Result<Trainer> {
    let model = Transformer::new(&small(Architecture::Qwen3), 9, &cpu().autodiff());
    Ok(Trainer::new(model, AdamW::new(settings)?))
}

/// Steps `done + 1..=last`, each on rows of its own.
fn train(mut trainer: Trainer, done: u64, last: u64) -> anyhow::Result<(Trainer, Vec<StepReport>)> {
    let mut reports = Vec::new();
    for step in done + 1..=last {
        let batch = documents(step, 3, 19, trainer.model.config().vocab_size);
        let report;
        (trainer, report) = trainer.step(&NextToken, &[batch], step, 1.0)?;
        reports.push(report);
    }
    Ok((trainer, reports))
}

#[derive(Default)]
struct Addresses(BTreeMap<ParamId, usize>);

impl ModuleVisitor for Addresses {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let tensor = parameter.val().inner().try_into_primitive::<Flex>().expect("on the CPU");
        self.0.insert(parameter.id, tensor.bytes().as_ptr() as usize);
    }
}

fn addresses(model: &Transformer) -> BTreeMap<ParamId, usize> {
    let mut addresses = Addresses::default();
    model.visit(&mut addresses);
    addresses.0
}

#[test]
fn a_step_on_the_cpu_copies_no_parameter() -> anyhow::Result<()> {
    let trainer = trainer(&OptimizerSection::new(1e-3))?;
    let (before, weights) = (addresses(&trainer.model), parameters(&trainer.model));
    let (trainer, _) = train(trainer, 0, 3)?;
    assert_eq!(addresses(&trainer.model), before);
    assert_ne!(parameters(&trainer.model), weights);
    Ok(())
}

/// A trainer from what a checkpoint would hold.
fn resumed(step: u64, weights: NamedTensors, state: NamedTensors, device: &Device) -> anyhow::Result<Trainer> {
    let model = Transformer::zeros(&small(Architecture::Qwen3), &device.clone().autodiff());
    let model = load_parameters(model, weights)?;
    Ok(Trainer::new(model, AdamW::resume(&OptimizerSection::new(1e-2), step, state, device)?))
}

#[test]
fn nine_and_eleven_steps_are_twenty_bit_for_bit() -> anyhow::Result<()> {
    let (whole, reports) = train(trainer(&OptimizerSection::new(1e-2))?, 0, 20)?;
    let (first, mut joined) = train(trainer(&OptimizerSection::new(1e-2))?, 0, 9)?;
    let second = resumed(9, parameters(&first.model), first.optimizer.state(), &cpu())?;
    drop(first);
    let (second, rest) = train(second, 9, 20)?;
    joined.extend(rest);
    assert_eq!(joined, reports);
    assert_eq!(parameters(&second.model), parameters(&whole.model));
    assert_eq!(second.optimizer.state(), whole.optimizer.state());
    Ok(())
}

#[test]
fn a_resume_that_forgets_the_moments_or_the_step_is_another_run() -> anyhow::Result<()> {
    let (_, reports) = train(trainer(&OptimizerSection::new(1e-2))?, 0, 12)?;
    let (first, _) = train(trainer(&OptimizerSection::new(1e-2))?, 0, 9)?;
    let (weights, state) = (parameters(&first.model), first.optimizer.state());
    for (step, state) in [(9, NamedTensors::new()), (0, state)] {
        let (_, rest) = train(resumed(step, weights.clone(), state, &cpu())?, 9, 12)?;
        assert_ne!(rest, reports[9..]);
    }
    Ok(())
}

#[test]
fn state_that_lacks_a_moment_is_refused() -> anyhow::Result<()> {
    let (first, _) = train(trainer(&OptimizerSection::new(1e-2))?, 0, 1)?;
    let mut state = first.optimizer.state();
    state.remove("model.norm.weight.second");
    let error = AdamW::resume(&OptimizerSection::new(1e-2), 1, state, &cpu()).expect_err("half of a parameter's state");
    assert!(error.to_string().contains("`model.norm.weight"), "{error}");
    Ok(())
}

fn group(parameters: &str, learning_rate_scale: f64, weight_decay: Option<f64>) -> ParameterGroup {
    ParameterGroup { parameters: parameters.to_owned(), learning_rate_scale, weight_decay }
}

#[test]
fn the_first_group_that_matches_counts() -> anyhow::Result<()> {
    let groups = vec![group("*.embed_tokens.weight", 1.0, Some(0.0)), group("model.*", 0.25, None)];
    let optimizer = AdamW::new(&OptimizerSection { groups, ..OptimizerSection::new(1e-3) })?;
    let settings = |learning_rate_scale, weight_decay| GroupSettings { learning_rate_scale, weight_decay };
    assert_eq!(optimizer.settings(EMBEDDING, 2), settings(1.0, 0.0));
    assert_eq!(optimizer.settings("model.layers.0.mlp.up_proj.weight", 2), settings(0.25, 0.1));
    assert_eq!(optimizer.settings("model.norm.weight", 1), settings(0.25, 0.0));
    assert_eq!(optimizer.settings("lm_head.weight", 2), settings(1.0, 0.1));
    Ok(())
}

#[test]
fn a_learning_rate_scale_of_zero_freezes_what_matches_and_nothing_else() -> anyhow::Result<()> {
    let groups = vec![group("model.layers.1.*", 0.0, None)];
    let start = trainer(&OptimizerSection { groups, ..OptimizerSection::new(1e-2) })?;
    let before = parameters(&start.model);
    let after = parameters(&train(start, 0, 2)?.0.model);
    for (name, tensor) in &after {
        assert_eq!(*tensor == before[name], name.starts_with("model.layers.1."), "{name}");
    }
    Ok(())
}

#[test]
fn a_decay_of_zero_on_embeddings_leaves_out_that_term_alone() -> anyhow::Result<()> {
    let start = trainer(&OptimizerSection::new(1e-2))?;
    let before = parameters(&start.model);
    let decayed = parameters(&train(start, 0, 1)?.0.model);
    let groups = vec![group("*.embed_tokens.weight", 1.0, Some(0.0))];
    let exempt = trainer(&OptimizerSection { groups, ..OptimizerSection::new(1e-2) })?;
    let exempt = parameters(&train(exempt, 0, 1)?.0.model);
    for (name, tensor) in &exempt {
        if name != EMBEDDING {
            assert_eq!(tensor, &decayed[name], "{name}");
            continue;
        }
        for ((exempt, decayed), before) in tensor.values.iter().zip(&decayed[name].values).zip(&before[name].values) {
            // learning_rate * weight_decay * weight, of values around 0.02 that round at 2e-9.
            assert!((exempt - decayed - 1e-2 * 0.1 * before).abs() < 1e-8, "{exempt} {decayed} {before}");
        }
    }
    Ok(())
}

#[test]
fn parameters_have_the_names_and_shapes_of_hugging_face() {
    let list = |architecture| -> String {
        let model = Transformer::zeros(&small(architecture), &cpu());
        let line = |(name, tensor): (&String, &limbeck_model::HostTensor)| format!("{name} {:?}\n", tensor.shape);
        parameters(&model).iter().map(line).collect()
    };
    insta::assert_snapshot!(list(Architecture::Qwen3), @"
    model.embed_tokens.weight [59, 26]
    model.layers.0.input_layernorm.weight [26]
    model.layers.0.mlp.down_proj.weight [26, 46]
    model.layers.0.mlp.gate_proj.weight [46, 26]
    model.layers.0.mlp.up_proj.weight [46, 26]
    model.layers.0.post_attention_layernorm.weight [26]
    model.layers.0.self_attn.k_norm.weight [4]
    model.layers.0.self_attn.k_proj.weight [12, 26]
    model.layers.0.self_attn.o_proj.weight [26, 24]
    model.layers.0.self_attn.q_norm.weight [4]
    model.layers.0.self_attn.q_proj.weight [24, 26]
    model.layers.0.self_attn.v_proj.weight [12, 26]
    model.layers.1.input_layernorm.weight [26]
    model.layers.1.mlp.down_proj.weight [26, 46]
    model.layers.1.mlp.gate_proj.weight [46, 26]
    model.layers.1.mlp.up_proj.weight [46, 26]
    model.layers.1.post_attention_layernorm.weight [26]
    model.layers.1.self_attn.k_norm.weight [4]
    model.layers.1.self_attn.k_proj.weight [12, 26]
    model.layers.1.self_attn.o_proj.weight [26, 24]
    model.layers.1.self_attn.q_norm.weight [4]
    model.layers.1.self_attn.q_proj.weight [24, 26]
    model.layers.1.self_attn.v_proj.weight [12, 26]
    model.norm.weight [26]
    ");
    insta::assert_snapshot!(list(Architecture::Llama), @"
    lm_head.weight [59, 26]
    model.embed_tokens.weight [59, 26]
    model.layers.0.input_layernorm.weight [26]
    model.layers.0.mlp.down_proj.weight [26, 46]
    model.layers.0.mlp.gate_proj.weight [46, 26]
    model.layers.0.mlp.up_proj.weight [46, 26]
    model.layers.0.post_attention_layernorm.weight [26]
    model.layers.0.self_attn.k_proj.weight [12, 26]
    model.layers.0.self_attn.o_proj.weight [26, 24]
    model.layers.0.self_attn.q_proj.weight [24, 26]
    model.layers.0.self_attn.v_proj.weight [12, 26]
    model.layers.1.input_layernorm.weight [26]
    model.layers.1.mlp.down_proj.weight [26, 46]
    model.layers.1.mlp.gate_proj.weight [46, 26]
    model.layers.1.mlp.up_proj.weight [46, 26]
    model.layers.1.post_attention_layernorm.weight [26]
    model.layers.1.self_attn.k_proj.weight [12, 26]
    model.layers.1.self_attn.o_proj.weight [26, 24]
    model.layers.1.self_attn.q_proj.weight [24, 26]
    model.layers.1.self_attn.v_proj.weight [12, 26]
    model.norm.weight [26]
    ");
}

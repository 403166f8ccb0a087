//! What a step on the grid computes, and what its export holds.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use limbeck_config::{Architecture, EmbeddingGrid, FakeQuantSection, ModelConfig, OptimizerSection, WeightGrid};
use limbeck_export::{GgufType, Storage, read_gguf, write_gguf};
use limbeck_model::{HostTensor, NamedTensors, Transformer, fake_quant_recipe, load_parameters, parameters};
use limbeck_quant::Grid;
use limbeck_train::{AdamW, NextToken, Trainer, gradient_norm};

use crate::support::batches::documents;
use crate::support::devices::{cpu, places};
use crate::support::models::small;
use crate::support::project::source_root;

/// Rows of whole blocks of every size: 256 for K-quants, 96 for blocks of 32 alone.
fn shape(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        hidden_size: 256,
        intermediate_size: 96,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 16,
        ..small(architecture)
    }
}

fn section(weights: WeightGrid) -> FakeQuantSection {
    FakeQuantSection { weights, embeddings: None, activations: Default::default() }
}

fn trainer(model: Transformer) -> anyhow::Result<Trainer> {
    Ok(Trainer::new(model, AdamW::new(&OptimizerSection::new(1e-2))?))
}

/// By name, the gradients that `step` would apply.
fn gradients(trainer: &Trainer) -> anyhow::Result<NamedTensors> {
    let micro_batches = documents(3, 4, 17, trainer.model.config().vocab_size).micro_batches(2);
    let gradients = trainer.gradients(&NextToken, &micro_batches)?.model;
    Ok(named(&trainer.model, &gradients))
}

fn named(model: &Transformer, gradients: &GradientsParams) -> NamedTensors {
    struct Namer<'a>(&'a GradientsParams, Vec<HostTensor>);
    impl ModuleVisitor for Namer<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(parameter.id).expect("every parameter has a gradient");
            self.1.push(HostTensor::from_tensor(gradient));
        }
    }
    let mut namer = Namer(gradients, Vec::new());
    model.visit(&mut namer);
    struct Names(limbeck_model::ModulePath, Vec<String>);
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.0.enter(name);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, _parameter: &Param<Tensor<D>>) {
            self.1.push(self.0.name());
        }
    }
    let mut names = Names(Default::default(), Vec::new());
    model.visit(&mut names);
    names.1.into_iter().zip(namer.1).collect()
}

/// The gradients of a model on the grid are those of an ordinary model that has these weights, and they move the masters.
#[test]
fn gradients_of_the_rounded_weights_move_the_masters() -> anyhow::Result<()> {
    for place in places()? {
        let config = shape(Architecture::Qwen3);
        let device = place.device.clone().autodiff();
        let masters = Transformer::new(&config, 5, &device);
        let before = parameters(&masters);
        let rounded = trainer(masters.with_fake_quant(Some(section(WeightGrid::Q4_0))))?;
        let on_grid = parameters(&rounded.model.on_grid()?);
        let plain = trainer(load_parameters(Transformer::zeros(&config, &device), on_grid.clone())?)?;
        let found = gradients(&rounded)?;
        assert_eq!(found, gradients(&plain)?, "{}", place.name);
        assert_ne!(found, gradients(&trainer(rounded.model.clone().with_fake_quant(None))?)?, "{}", place.name);

        // AdamW's first step is the sign of the gradient, times the rate, and the decay of the masters themselves.
        let micro_batches = documents(3, 4, 17, config.vocab_size).micro_batches(2);
        let (trainer, _) = rounded.step(&NextToken, &micro_batches, 1, 1.0)?;
        let after = parameters(&trainer.model);
        let name = "model.layers.0.mlp.up_proj.weight";
        let (before, after, gradient) = (&before[name].values, &after[name].values, &found[name].values);
        for ((before, after), gradient) in before.iter().zip(after).zip(gradient).filter(|(_, g)| g.abs() > 1e-4) {
            let expected = before - 1e-2 * 0.1 * before - 1e-2 * gradient.signum();
            // The gradient's epsilon of 1e-8 over 1e-4, clipped to a tenth at most.
            assert!((after - expected).abs() < 2e-5, "{before} to {after}, not {expected}");
        }
    }
    Ok(())
}

#[test]
fn without_a_grid_nothing_is_rounded() -> anyhow::Result<()> {
    let model = Transformer::new(&shape(Architecture::Llama), 5, &cpu());
    assert_eq!(parameters(&model.on_grid()?), parameters(&model));
    let none = FakeQuantSection { embeddings: Some(EmbeddingGrid::None), ..section(WeightGrid::Q8_0) };
    let rounded = parameters(&model.clone().with_fake_quant(Some(none)).on_grid()?);
    for (name, tensor) in parameters(&model) {
        let stays = tensor.shape.len() == 1 || ["model.embed_tokens.weight", "lm_head.weight"].contains(&name.as_str());
        assert_eq!(rounded[&name] == tensor, stays, "{name}");
    }
    Ok(())
}

/// The file that is written from the masters holds the weights that training computes with, to the last bit: also where its
/// rows have another order.
#[test]
fn an_export_of_the_masters_holds_the_weights_of_the_training() -> anyhow::Result<()> {
    let tokenizer = source_root().join("pipeline/export/tests/golden/tokenizer");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("model.gguf");
    for architecture in [Architecture::Qwen3, Architecture::Llama] {
        for (weights, kind, output) in
            [(WeightGrid::Q4_0, GgufType::Q4_0, Grid::Q6K), (WeightGrid::Q8_0, GgufType::Q8_0, Grid::Q8_0)]
        {
            let config = ModelConfig { vocab_size: 300, ..shape(architecture) };
            let section = section(weights);
            let model = Transformer::new(&config, 5, &cpu().autodiff()).with_fake_quant(Some(section));
            let micro_batches = documents(3, 4, 17, config.vocab_size).micro_batches(4);
            let (trainer, _) = trainer(model)?.step(&NextToken, &micro_batches, 1, 1.0)?;
            let stored = trainer.model.stored(&section);
            let name = if config.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" };
            assert_eq!(stored[name].grid, output);
            let storage = Storage { recipe: fake_quant_recipe(&section), ..Storage::from(kind) };
            assert_eq!(storage.recipe, kind.recipe(), "trained for what the type is");
            let report = write_gguf(&path, &config, &parameters(&trainer.model), &tokenizer, storage)?;
            assert_eq!(report.fallbacks, []);
            let (_, found) = read_gguf(&path)?;
            let (masters, computing) = (parameters(&trainer.model), parameters(&trainer.model.on_grid()?));
            assert_ne!(found, masters, "{architecture:?} {kind}");
            for (name, tensor) in computing {
                assert_eq!(found[&name], tensor, "{architecture:?} {kind}: {name}");
            }
        }
    }
    Ok(())
}

#[test]
fn norms_of_the_gradients_are_those_of_all_parameters() -> anyhow::Result<()> {
    let config = shape(Architecture::Qwen3);
    let model = Transformer::new(&config, 5, &cpu().autodiff()).with_fake_quant(Some(section(WeightGrid::Q8_0)));
    let trainer = trainer(model)?;
    let micro_batches = documents(3, 4, 17, config.vocab_size).micro_batches(2);
    let gradients = trainer.gradients(&NextToken, &micro_batches)?.model;
    let norm = gradient_norm(&trainer.model, &gradients).expect("there are gradients").into_scalar::<f32>();
    let squares = named(&trainer.model, &gradients).into_values().flat_map(|tensor| tensor.values);
    let expected = squares.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    // 32-bit sums of 200,000 squares.
    assert!((f64::from(norm) / expected - 1.0).abs() < 1e-4, "{norm} {expected}");
    Ok(())
}

//! Models that compute with the weights of an export: what [`FakeQuantSection`] means for a decoder.
//!
//! The parameters of such a model are the 32-bit masters that an optimizer moves. [`Transformer::on_grid`] gives the model that
//! computes: its matrices are decoded from the blocks that the export of the masters writes, its parameters have the same
//! ids, so its gradients are gradients for the masters (straight through: Bengio et al. 2013, arXiv:1308.3432).

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use limbeck_config::{ActivationGrid, EmbeddingGrid, FakeQuantSection, ModelConfig, WeightGrid};
use limbeck_quant::{Grid, Place, Recipe, Stored};

use crate::error::ModelError;
use crate::path::ModulePath;
use crate::transformer::Transformer;
use crate::weights::HostTensor;

/// The grids of the matrices.
pub fn fake_quant_recipe(section: &FakeQuantSection) -> Recipe {
    let recipe = Recipe::uniform(grid_of(section.weights));
    match section.embeddings() {
        EmbeddingGrid::Q8_0 => recipe.with_output(Grid::Q8_0),
        EmbeddingGrid::Q6K => recipe.with_output(Grid::Q6K),
        EmbeddingGrid::None => Recipe { embedding: Grid::F32, ..recipe.with_output(Grid::F32) },
    }
}

fn grid_of(weights: WeightGrid) -> Grid {
    match weights {
        WeightGrid::Q4_0 => Grid::Q4_0,
        WeightGrid::Q8_0 => Grid::Q8_0,
    }
}

/// What is rounded before it meets a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoundedInputs {
    /// Of the blocks.
    pub(crate) blocks: bool,
    /// Of the output weights.
    pub(crate) output: bool,
}

impl RoundedInputs {
    /// llama.cpp rounds the inputs of Q4_0 and Q8_0 to 8 bits in blocks of 32. Those of K-quants it rounds in blocks of 256, more
    /// finely; here they stay as they are.
    pub(crate) fn of(section: Option<&FakeQuantSection>, config: &ModelConfig) -> Self {
        let Some(section) = section.filter(|section| section.activations == ActivationGrid::Int8) else {
            return Self::default();
        };
        let output = fake_quant_recipe(section).stored(Place::Output, config.hidden_size).grid;
        Self { blocks: true, output: matches!(output, Grid::Q4_0 | Grid::Q8_0) }
    }
}

impl Transformer {
    /// How each matrix is stored under `section`, by name.
    pub fn stored(&self, section: &FakeQuantSection) -> BTreeMap<String, Stored> {
        let mut rows = RowSizes::default();
        self.visit(&mut rows);
        let (recipe, config) = (fake_quant_recipe(section), self.config());
        let stored = |(name, row_size): (String, usize)| {
            let place = Place::of(&name, config.num_hidden_layers, config.tie_word_embeddings);
            let stored = recipe.stored(place, row_size);
            (name, stored)
        };
        rows.found.into_iter().map(stored).collect()
    }

    /// The model that computes: with fake quantisation the matrices are what the export of them gives back, without it they
    /// are as they were. The ids of the parameters stay.
    ///
    /// # Errors
    /// A value that is not finite, or too large for the grid.
    pub fn on_grid(&self) -> Result<Self, ModelError> {
        let Some(section) = self.fake_quant() else { return Ok(self.clone()) };
        let mut rounder = Rounder { path: ModulePath::default(), stored: self.stored(section), error: None };
        let rounded = self.clone().map(&mut rounder);
        match rounder.error {
            Some(error) => Err(error),
            None => Ok(rounded.with_exact_weights()),
        }
    }
}

#[derive(Default)]
struct RowSizes {
    path: ModulePath,
    found: BTreeMap<String, usize>,
}

impl ModuleVisitor for RowSizes {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let [_, row_size] = parameter.lazy_shape().to_vec()[..] {
            self.found.insert(self.path.name(), row_size);
        }
    }
}

struct Rounder {
    path: ModulePath,
    stored: BTreeMap<String, Stored>,
    error: Option<ModelError>,
}

impl ModuleMapper for Rounder {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        // 32-bit floats come back as they are.
        let Some(stored) = self.stored.get(&name).filter(|stored| stored.grid != Grid::F32) else { return parameter };
        let value = parameter.val();
        let strategy = value.gradient_checkpointing_strategy();
        let value = if strategy.is_some() { value.inner() } else { value };
        let (device, HostTensor { shape, values }) = (value.device(), HostTensor::from_tensor(value));
        let values = match stored.grid.round_trip(&values, stored.row_size) {
            Ok(values) => values,
            Err(source) => {
                self.error.get_or_insert(ModelError::Quant { name, source });
                return parameter;
            }
        };
        let value = Tensor::from_data(TensorData::new(values, shape), &device);
        parameter.map(|_| match strategy {
            None => value,
            // `autodiff` takes the default strategy, and operands with different strategies panic.
            Some(strategy) => value.autodiff().with_gradient_checkpointing_strategy(strategy).require_grad(),
        })
    }
}

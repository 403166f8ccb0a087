//! AdamW whose state is keyed by the parameter's name, so that it can be saved beside the model.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use glob::Pattern;
use limbeck_config::OptimizerSection;
use limbeck_kernels::{AdamWUpdate, Moments, adamw_update, sum_of_squares};
use limbeck_model::{HostTensor, ModulePath, NamedTensors};

use crate::error::TrainError;

/// What one parameter's update differs in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupSettings {
    /// Factor on the learning rate.
    pub learning_rate_scale: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// How large the gradients of a step are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientScale {
    /// Global norm of the gradient of the mean loss.
    pub norm: f32,
    /// What the gradients at hand are, times those of the mean.
    pub multiple: f32,
}

/// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with clipping by the global norm.
#[derive(Debug)]
pub struct AdamW {
    config: OptimizerSection,
    groups: Vec<Pattern>,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer that has made no step.
    ///
    /// # Errors
    /// If the glob of a parameter group is malformed.
    pub fn new(config: &OptimizerSection) -> Result<Self, TrainError> {
        let groups = config.groups.iter().map(|group| {
            Pattern::new(&group.parameters)
                .map_err(|source| TrainError::Pattern { pattern: group.parameters.clone(), source })
        });
        let groups = groups.collect::<Result<_, _>>()?;
        Ok(Self { config: config.clone(), groups, step: 0, moments: BTreeMap::new() })
    }

    /// The optimizer that had `state` after `step` steps.
    ///
    /// # Errors
    /// If a glob is malformed, or the state is not what [`AdamW::state`] gives.
    pub fn resume(
        config: &OptimizerSection,
        step: u64,
        mut state: NamedTensors,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let mut optimizer = Self { step, ..Self::new(config)? };
        while let Some((key, first)) = state.pop_first() {
            let name = key.strip_suffix(".first").ok_or_else(|| TrainError::OptimizerState(key.clone()))?;
            let second = state.remove(&format!("{name}.second"));
            let second = second.ok_or_else(|| TrainError::OptimizerState(key.clone()))?;
            let [first, second] = [first, second].map(|HostTensor { values, .. }| {
                let shape = [values.len()];
                Tensor::from_data(TensorData::new(values, shape), device)
            });
            optimizer.moments.insert(name.to_owned(), Moments { first, second });
        }
        Ok(optimizer)
    }

    /// The state as it is saved: `<parameter>.first` and `<parameter>.second`, flat.
    pub fn state(&self) -> NamedTensors {
        let mut tensors = NamedTensors::new();
        for (name, moments) in &self.moments {
            tensors.insert(format!("{name}.first"), HostTensor::from_tensor(moments.first.clone()));
            tensors.insert(format!("{name}.second"), HostTensor::from_tensor(moments.second.clone()));
        }
        tensors
    }

    /// The settings of the parameter called `name`: those of the first group that matches, else the decay of matrices.
    pub fn settings(&self, name: &str, dimensions: usize) -> GroupSettings {
        let weight_decay = if dimensions > 1 { self.config.weight_decay } else { 0.0 };
        let group = self.groups.iter().position(|pattern| pattern.matches(name)).map(|i| &self.config.groups[i]);
        GroupSettings {
            learning_rate_scale: group.map_or(1.0, |group| group.learning_rate_scale),
            weight_decay: group.and_then(|group| group.weight_decay).unwrap_or(weight_decay),
        }
    }

    /// `model` after one step along `gradients`.
    pub fn step<M: Module>(
        &mut self,
        model: M,
        gradients: GradientsParams,
        scale: GradientScale,
        learning_rate_factor: f64,
    ) -> M {
        self.step += 1;
        let max_norm = self.config.max_grad_norm as f32;
        let update = AdamWUpdate {
            // As torch.nn.utils.clip_grad_norm_.
            gradient_scale: (max_norm / (scale.norm + 1e-6)).min(1.0) / scale.multiple,
            learning_rate: (self.config.learning_rate * learning_rate_factor) as f32,
            beta_1: self.config.beta_1 as f32,
            beta_2: self.config.beta_2 as f32,
            epsilon: self.config.epsilon as f32,
            weight_decay: 0.0,
            step: self.step as i32,
        };
        model.map(&mut Updater { path: ModulePath::default(), optimizer: self, gradients, update })
    }
}

struct Updater<'a> {
    path: ModulePath,
    optimizer: &'a mut AdamW,
    gradients: GradientsParams,
    update: AdamWUpdate,
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(parameter.id) else { return parameter };
        let name = self.path.name();
        let settings = self.optimizer.settings(&name, D);
        let mut update = self.update;
        update.learning_rate *= settings.learning_rate_scale as f32;
        update.weight_decay = settings.weight_decay as f32;
        parameter.map(|value| {
            let strategy = value.gradient_checkpointing_strategy();
            let value = value.inner();
            // Taken out of the map: a tensor with one owner is overwritten where it is.
            let moments = self.optimizer.moments.remove(&name).unwrap_or_else(|| {
                let zeros = || Tensor::zeros([value.shape().num_elements()], &value.device());
                Moments { first: zeros(), second: zeros() }
            });
            let (value, moments) = adamw_update(value, gradient, moments, update);
            self.optimizer.moments.insert(name, moments);
            // `autodiff` takes the default strategy, and operands with different strategies panic.
            let value = value.autodiff();
            let value = strategy.into_iter().fold(value, Tensor::with_gradient_checkpointing_strategy);
            value.require_grad()
        })
    }
}

/// Norm of all gradients together: `[1]`, on the device. `None` where there is no gradient.
pub fn gradient_norm<M: Module>(model: &M, gradients: &GradientsParams) -> Option<Tensor<1>> {
    let mut squares = Squares { gradients, sums: Vec::new() };
    model.visit(&mut squares);
    (!squares.sums.is_empty()).then(|| Tensor::cat(squares.sums, 0).sum().sqrt())
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.sums.push(sum_of_squares(gradient));
        }
    }
}

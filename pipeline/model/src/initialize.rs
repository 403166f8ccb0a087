//! Initial weights as a pure function of a seed and a parameter's name.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use crate::path::ModulePath;
use crate::random::Normals;

/// Standard deviation of the initial matrices (GPT-2; Hugging Face's `initializer_range`).
const STANDARD_DEVIATION: f64 = 0.02;

/// `model` with normal matrices of standard deviation 0.02, those that write to the residual stream (`o_proj`,
/// `down_proj`) divided by `√(2 · layers)` (Radford et al. 2019, section 2.3), and unit norms.
///
/// Burn's own initializers draw when a parameter is first read, from one generator for the whole process: the weights
/// would depend on what else runs and on which layer is looked at first.
pub fn initialize(model: crate::Transformer, seed: u64) -> crate::Transformer {
    let layers = model.config().num_hidden_layers;
    let residual_scale = (2.0 * layers as f64).sqrt().recip();
    model.map(&mut Initializer { seed, residual_scale, path: ModulePath::default() })
}

struct Initializer {
    seed: u64,
    residual_scale: f64,
    path: ModulePath,
}

impl ModuleMapper for Initializer {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D == 1 {
            return parameter;
        }
        let name = self.path.name();
        let residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        let deviation = STANDARD_DEVIATION * if residual { self.residual_scale } else { 1.0 };
        let mut normals = Normals::new(self.seed, &name);
        parameter.map(|value| {
            let values: Vec<f32> =
                (0..value.shape().num_elements()).map(|_| (deviation * normals.next()) as f32).collect();
            let device = value.device();
            let values = Tensor::from_data(TensorData::new(values, value.dims()), &device);
            if device.is_autodiff() { values.require_grad() } else { values }
        })
    }
}

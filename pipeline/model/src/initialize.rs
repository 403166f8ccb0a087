//! Initial weights as a pure function of a seed and a parameter's name.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use crate::path::ModulePath;

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

/// Standard normal numbers.
struct Normals {
    state: u64,
}

impl Normals {
    /// A stream of its own for every seed and name (FNV-1a over the name).
    fn new(seed: u64, name: &str) -> Self {
        let hash = name
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
        let mut stream = Self { state: hash ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) };
        stream.state = stream.bits();
        stream
    }

    /// Box and Muller 1958, one of the two values.
    fn next(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

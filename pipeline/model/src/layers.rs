//! Layers with one parameter each, in Hugging Face's layout.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use limbeck_kernels::rms_norm;

use crate::random::Normals;

/// A matrix product, with a bias where the architecture has one.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[output_size, input_size]`, as PyTorch stores it.
    pub weight: Param<Tensor<2>>,
    /// `[output_size]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer with zero weights, see [`crate::initialize`].
    pub fn zeros(input_size: usize, output_size: usize, device: &Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::zeros([output_size, input_size], device)), bias: None }
    }

    /// A layer that gives what it reads.
    pub fn identity(size: usize, device: &Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::eye(size, device)), bias: None }
    }

    /// A layer with normal weights of this standard deviation: a function of the seed and the name.
    pub fn normal(
        input_size: usize,
        output_size: usize,
        standard_deviation: f64,
        (seed, name): (u64, &str),
        device: &Device,
    ) -> Self {
        let mut normals = Normals::new(seed, name);
        let count = output_size * input_size;
        let values: Vec<f32> = (0..count).map(|_| (standard_deviation * normals.next()) as f32).collect();
        let weight = Tensor::from_data(TensorData::new(values, [output_size, input_size]), device);
        Self { weight: Param::from_tensor(weight), bias: None }
    }

    /// The layer with a bias of zeros.
    pub fn with_bias(self) -> Self {
        let ([output_size, _], device) = (self.weight.dims(), self.weight.device());
        Self { bias: Some(Param::from_tensor(Tensor::zeros([output_size], &device))), ..self }
    }
}

/// Root-mean-square normalization with a learned scale.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[hidden_size]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean of the squares.
    pub epsilon: f32,
}

impl RmsNorm {
    /// A norm with unit scale.
    pub fn new(hidden_size: usize, epsilon: f64, device: &Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::ones([hidden_size], device)), epsilon: epsilon as f32 }
    }

    /// Normalizes the last dimension.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        rms_norm(input, self.weight.val(), self.epsilon)
    }
}

/// One row a token.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[vocab_size, hidden_size]`.
    pub weight: Param<Tensor<2>>,
}

//! How far apart tensors are.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use limbeck_model::{HostTensor, ModulePath, NamedTensors};

/// The largest absolute difference. A value that is not a number makes it infinite.
pub(crate) fn max_abs(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let differences = actual.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    differences.fold(0.0, |largest, value| if value.is_nan() { f64::INFINITY } else { largest.max(value) })
}

/// `‖actual - expected‖ / ‖expected‖`, in 64 bits.
pub(crate) fn relative_l2(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut actual.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut expected.iter().map(|value| f64::from(*value)))
}

/// The tensor with the largest [`relative_l2`], and that. Names and shapes must be the same.
pub(crate) fn farthest(actual: &NamedTensors, expected: &NamedTensors) -> (String, f64) {
    let shapes = |tensors: &NamedTensors| -> Vec<(String, Vec<usize>)> {
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
    };
    assert_eq!(shapes(actual), shapes(expected));
    let distances = actual.iter().map(|(name, tensor)| (name, relative_l2(&tensor.values, &expected[name].values)));
    let farthest = distances.max_by(|a, b| a.1.total_cmp(&b.1)).expect("at least one tensor");
    (farthest.0.clone(), farthest.1)
}

/// The values of a tensor, row-major.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    HostTensor::from_tensor(tensor).values
}

/// Gradients by the names of their parameters.
pub(crate) fn named<M: Module>(model: &M, gradients: &GradientsParams) -> NamedTensors {
    let mut collector = Collector { path: ModulePath::default(), gradients, tensors: NamedTensors::new() };
    model.visit(&mut collector);
    collector.tensors
}

struct Collector<'a> {
    path: ModulePath,
    gradients: &'a GradientsParams,
    tensors: NamedTensors,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.tensors.insert(self.path.name(), HostTensor::from_tensor(gradient));
        }
    }
}

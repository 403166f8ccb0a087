//! Named tensors on the host, safetensors files, and modules as named tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::ModelError;
use crate::path::ModulePath;

/// A tensor on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Vec<f32>,
}

/// Tensors by Hugging Face's names; matrices are `[output_size, input_size]`.
pub type NamedTensors = BTreeMap<String, HostTensor>;

impl HostTensor {
    /// The values of `tensor`, copied to the host.
    pub fn from_tensor<const D: usize>(tensor: Tensor<D>) -> Self {
        let shape = tensor.dims().to_vec();
        let values = tensor.into_data().convert::<f32>().try_into_vec().expect("converted to 32-bit floats");
        Self { shape, values }
    }
}

/// Writes `tensors` as 32-bit floats, in the order of their names, with the metadata that transformers asks for.
///
/// # Errors
/// If the file cannot be written.
pub fn save_tensors(path: &Path, tensors: &NamedTensors) -> Result<(), ModelError> {
    let tensors = tensors.iter().map(|(name, tensor)| {
        let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        (name.clone(), StoredTensor { dtype: Dtype::F32, shape: tensor.shape.clone(), bytes })
    });
    save_stored(path, &tensors.collect(), "pt")
}

/// A tensor as it stands in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Little-endian and row-major, as many as type and shape say.
    pub bytes: Vec<u8>,
}

/// Writes `tensors` in the order of their names; `format` is what the metadata say of the program that it is for.
///
/// # Errors
/// If the file cannot be written, or a tensor has other bytes than its shape says.
pub fn save_stored(path: &Path, tensors: &BTreeMap<String, StoredTensor>, format: &str) -> Result<(), ModelError> {
    let format_error = |source| ModelError::Format { path: path.to_owned(), source };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, StoredTensor { dtype, shape, bytes }) in tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes).map_err(format_error)?));
    }
    let metadata = [("format".to_owned(), format.to_owned())].into();
    let io_error = |source| ModelError::Io { path: path.to_owned(), source };
    // safetensors makes the file readable to its owner alone; it is to be as readable as any other.
    let permissions = File::create(path).and_then(|file| file.metadata()).map_err(io_error)?.permissions();
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|source| match source {
        safetensors::SafeTensorError::IoError(source) => io_error(source),
        source => format_error(source),
    })?;
    std::fs::set_permissions(path, permissions).map_err(io_error)
}

/// Reads every tensor of the file; 16-bit floats become 32-bit ones.
///
/// # Errors
/// If the file cannot be read, is not safetensors, or holds other numbers than floats of 16 or 32 bits.
pub fn load_tensors(path: &Path) -> Result<NamedTensors, ModelError> {
    let FileTensors { floats, words } = load_with_words(path)?;
    match words.into_keys().next() {
        None => Ok(floats),
        Some(name) => Err(ModelError::Type { path: path.to_owned(), name, found: "U32".to_owned() }),
    }
}

/// What weights hold, in one file or several.
#[derive(Debug, Default)]
pub(crate) struct FileTensors {
    /// Floats of 16 or 32 bits.
    pub(crate) floats: NamedTensors,
    /// Packed codes, with their shapes.
    pub(crate) words: BTreeMap<String, (Vec<usize>, Vec<u32>)>,
}

impl FileTensors {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.floats.contains_key(name) || self.words.contains_key(name)
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.floats.extend(other.floats);
        self.words.extend(other.words);
    }
}

/// [`load_tensors`], with the 32-bit words that a quantised matrix is packed in.
pub(crate) fn load_with_words(path: &Path) -> Result<FileTensors, ModelError> {
    let bytes = std::fs::read(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })?;
    let file =
        SafeTensors::deserialize(&bytes).map_err(|source| ModelError::Format { path: path.to_owned(), source })?;
    let mut tensors = FileTensors::default();
    for (name, view) in file.iter() {
        let (halves, words) = (view.data().as_chunks::<2>().0.iter(), view.data().as_chunks::<4>().0.iter());
        let values = match view.dtype() {
            Dtype::F32 => words.map(|word| f32::from_le_bytes(*word)).collect(),
            Dtype::F16 => halves.map(|half| f16::from_le_bytes(*half).to_f32()).collect(),
            Dtype::BF16 => halves.map(|half| bf16::from_le_bytes(*half).to_f32()).collect(),
            Dtype::U32 => {
                let words = words.map(|word| u32::from_le_bytes(*word)).collect();
                tensors.words.insert(name.to_owned(), (view.shape().to_vec(), words));
                continue;
            }
            found => {
                let (name, found) = (name.to_owned(), format!("{found:?}"));
                return Err(ModelError::Type { path: path.to_owned(), name, found });
            }
        };
        tensors.floats.insert(name.to_owned(), HostTensor { shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}

/// Every float parameter of `module`, copied to the host.
pub fn parameters<M: Module>(module: &M) -> NamedTensors {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    collector.tensors
}

/// `module` with the values of `tensors`, whose names and shapes must be exactly the module's.
///
/// # Errors
/// If a tensor is missing, unknown or of another shape.
pub fn load_parameters<M: Module>(module: M, tensors: NamedTensors) -> Result<M, ModelError> {
    let mut loader = Loader { path: ModulePath::default(), tensors, error: None };
    let module = module.map(&mut loader);
    match (loader.error, loader.tensors.into_keys().next()) {
        (Some(error), _) => Err(error),
        (None, Some(name)) => Err(ModelError::Unknown(name)),
        (None, None) => Ok(module),
    }
}

#[derive(Default)]
struct Collector {
    path: ModulePath,
    tensors: NamedTensors,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.tensors.insert(self.path.name(), HostTensor::from_tensor(parameter.val()));
    }
}

struct Loader {
    path: ModulePath,
    tensors: NamedTensors,
    error: Option<ModelError>,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let expected = parameter.lazy_shape().to_vec();
        match self.tensors.remove(&name) {
            None => {
                self.error.get_or_insert(ModelError::Missing(name));
                parameter
            }
            Some(tensor) if tensor.shape != expected => {
                self.error.get_or_insert(ModelError::Shape { name, expected, found: tensor.shape });
                parameter
            }
            Some(tensor) => {
                let id = parameter.id;
                let value = Tensor::from_data(TensorData::new(tensor.values, tensor.shape), &parameter.lazy_device());
                parameter.transform_for_load(value, id)
            }
        }
    }
}

//! Matrices that mlx-lm quantised, as 32-bit floats.

use std::collections::BTreeMap;
use std::path::Path;

use limbeck_quant::AffineGrid;
use serde_json::Value;

use crate::error::ModelError;
use crate::weights::{FileTensors, HostTensor, NamedTensors};

/// The section `quantization` of a `config.json`.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    /// Of every packed matrix but the exceptions; `None` where there is no section.
    grid: Option<AffineGrid>,
    /// By the name of the layer.
    exceptions: BTreeMap<String, AffineGrid>,
}

impl Packing {
    /// `None` if the section has a grid that is not read.
    pub(crate) fn read(section: &Value) -> Option<Self> {
        let layers = section.as_object()?.iter().filter(|(_, value)| value.is_object());
        let exceptions = layers.map(|(layer, section)| Some((layer.clone(), grid(section)?)));
        Some(Self { grid: Some(grid(section)?), exceptions: exceptions.collect::<Option<_>>()? })
    }

    /// Floats as they are; `X.weight` in words with `X.scales` and `X.biases` as one matrix of floats.
    ///
    /// # Errors
    /// If the parts of a matrix do not go together, or it is packed and the section does not say how.
    pub(crate) fn unpack(&self, tensors: FileTensors, directory: &Path) -> Result<NamedTensors, ModelError> {
        let FileTensors { mut floats, words } = tensors;
        for (name, (shape, words)) in words {
            let layer = name.strip_suffix(".weight").unwrap_or(&name);
            let grid = self.exceptions.get(layer).copied().or(self.grid);
            let (Some(grid), &[rows, words_in_row]) = (grid, shape.as_slice()) else {
                return Err(ModelError::Type { path: directory.to_owned(), name, found: "U32".to_owned() });
            };
            let mut part = |part: &str| {
                let name = format!("{layer}.{part}");
                floats.remove(&name).ok_or(ModelError::Missing(name))
            };
            let (scales, biases) = (part("scales")?, part("biases")?);
            let row_size = words_in_row * grid.codes_in_word();
            let values = grid.decode(&words, &scales.values, &biases.values, row_size);
            let values = values.map_err(|cause| ModelError::Packed { name: name.clone(), cause })?;
            floats.insert(name, HostTensor { shape: vec![rows, row_size], values });
        }
        Ok(floats)
    }
}

fn grid(section: &Value) -> Option<AffineGrid> {
    let is_affine = section.get("mode").is_none_or(|mode| mode == "affine");
    let [bits, group_size] = ["bits", "group_size"].map(|key| section.get(key).and_then(Value::as_u64));
    AffineGrid::new(bits?, group_size?).filter(|_| is_affine)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Two rows of 64 values, all codes 3, in the groups and bits that `section` says; steps of 2 from 1.
    fn tensors(bits: usize, group_size: usize) -> FileTensors {
        let code_3_everywhere = (0..32 / bits).fold(0, |word, _| word << bits | 3);
        let shape = vec![2, 64 * bits / 32];
        let part = |value: f32| HostTensor { shape: vec![2, 64 / group_size], values: vec![value; 128 / group_size] };
        FileTensors {
            floats: [("x.scales".to_owned(), part(2.0)), ("x.biases".to_owned(), part(1.0))].into(),
            words: [("x.weight".to_owned(), (shape.clone(), vec![code_3_everywhere; shape[0] * shape[1]]))].into(),
        }
    }

    fn unpack(section: Value, tensors: FileTensors) -> Result<NamedTensors, ModelError> {
        Packing::read(&section).expect("a section that is read").unpack(tensors, Path::new("here"))
    }

    #[test]
    fn matrices_are_unpacked_as_the_section_says() {
        let expected: NamedTensors =
            [("x.weight".to_owned(), HostTensor { shape: vec![2, 64], values: vec![7.0; 128] })].into();
        for (bits, group_size) in [(4, 64), (8, 32), (2, 16)] {
            let section = json!({ "bits": bits, "group_size": group_size });
            assert_eq!(unpack(section, tensors(bits, group_size)).expect("they go together"), expected);
        }
        // A layer of its own bits beside others, and one that is not packed.
        let section = json!({
            "bits": 4, "group_size": 64, "mode": "affine", "y": false, "x": { "bits": 8, "group_size": 32 },
        });
        assert_eq!(unpack(section, tensors(8, 32)).expect("they go together"), expected);
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused() {
        let section = || json!({ "bits": 4, "group_size": 64 });
        let mut lost = tensors(4, 64);
        lost.floats.remove("x.biases");
        assert!(matches!(unpack(section(), lost), Err(ModelError::Missing(name)) if name == "x.biases"));
        let error = unpack(section(), tensors(4, 32)).expect_err("twice as many scales");
        assert_eq!(
            error.to_string(),
            "tensor `x.weight`: `4` scales and `4` biases given, must be one each for `2` groups; hint: the data are \
             incomplete"
        );
        let error = Packing::default().unpack(tensors(4, 64), Path::new("here")).expect_err("no section");
        assert!(matches!(error, ModelError::Type { .. }));
    }

    #[test]
    fn grids_that_are_not_read_are_told() {
        for section in [
            json!({ "bits": 4, "group_size": 32, "mode": "mxfp4" }),
            json!({ "bits": 6, "group_size": 64 }),
            json!({ "bits": 4 }),
            json!({ "bits": 4, "group_size": 64, "x": { "bits": 5, "group_size": 64 } }),
            json!(4),
        ] {
            assert!(Packing::read(&section).is_none(), "{section}");
        }
    }
}

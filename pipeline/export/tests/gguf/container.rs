//! The container alone: headers, types, lengths.

use std::fs;

use limbeck_export::ExportError;
use limbeck_export::gguf::{GgufFile, TensorSource, TensorType, Value, write_container};
use limbeck_quant::Grid;

use crate::{golden, tensor};

fn every_type() -> Vec<(String, Value)> {
    let values = [
        ("general.architecture", Value::String("none".to_owned())),
        ("u8", Value::U8(250)),
        ("i8", Value::I8(-7)),
        ("u16", Value::U16(65_000)),
        ("i16", Value::I16(-30_000)),
        ("u32", Value::U32(4_000_000_000)),
        ("i32", Value::I32(-2_000_000_000)),
        ("f32", Value::F32(0.1)),
        ("bool", Value::Bool(true)),
        ("string", Value::String("Ġé 你好".to_owned())),
        ("strings", Value::strings(["a", "", "ß"].map(str::to_owned))),
        ("integers", Value::integers([3, -1, 2])),
        ("u64", Value::U64(1 << 63)),
        ("i64", Value::I64(-(1 << 62))),
        ("f64", Value::F64(0.1)),
    ];
    values.map(|(key, value)| (key.to_owned(), value)).into()
}

fn every_grid() -> Vec<TensorSource<'static>> {
    let shapes: [(&str, &[usize], Grid); 5] = [
        ("vector", &[5], Grid::F32),
        ("matrix", &[3, 7], Grid::F16),
        ("cube", &[2, 3, 32], Grid::Q8_0),
        ("small", &[3, 64], Grid::Q4_0),
        ("brain", &[1, 9], Grid::BF16),
    ];
    let source = |(name, shape, grid): (&str, &[usize], Grid)| {
        let values = tensor(name.len() as i64, shape).values.into();
        TensorSource { name: name.to_owned(), shape: shape.to_vec(), grid, values, importance: None }
    };
    shapes.map(source).into()
}

#[test]
fn bytes_equal_those_of_the_gguf_package() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("container.gguf");
    write_container(&path, &every_type(), &every_grid()).expect("the values fit their grids");
    let (ours, theirs) = (fs::read(path).expect("ours"), fs::read(golden("container.gguf")).expect("theirs"));
    assert_eq!(ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs), None, "first byte that differs");
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn what_the_gguf_package_wrote_is_read_back() {
    let file = GgufFile::open(&golden("container.gguf")).expect("a valid file");
    assert_eq!(file.metadata, every_type().into_iter().collect());
    assert_eq!(file.tensors.len(), 5);
    for source in every_grid() {
        let info = &file.tensors[&source.name];
        assert_eq!((&info.shape, info.kind), (&source.shape, TensorType::Grid(source.grid)));
        let values = file.tensor(&source.name).expect("a valid tensor");
        // The values are exact in the floats; a Q4_0 step is 1/8.
        let largest_error = values.iter().zip(source.values.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let allowed = match source.grid {
            Grid::F32 | Grid::F16 => 0.0,
            Grid::BF16 | Grid::Q8_0 => 0.005,
            Grid::Q4_0 | Grid::Q4_1 | Grid::Q5_0 | Grid::Q5_1 | Grid::Q4K | Grid::Q5K | Grid::Q6K => 0.13,
        };
        assert!(largest_error <= allowed, "{}: {largest_error}", source.name);
    }
}

#[test]
fn every_proper_prefix_is_refused() {
    let bytes = fs::read(golden("container.gguf")).expect("a golden file");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("prefix.gguf");
    // The last tensor has 18 bytes; the 14 after it are padding, which other writers leave out.
    let data_end = bytes.len() - 14;
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).expect("a writable directory");
        let opened = GgufFile::open(&path);
        assert_eq!(opened.is_ok(), length >= data_end, "prefix of {length} bytes: {opened:?}");
        if let Err(error) = opened {
            assert!(matches!(error, ExportError::Gguf { .. }), "prefix of {length} bytes: {error}");
        }
    }
}

#[test]
fn a_changed_byte_is_refused_or_read_but_never_a_panic() {
    let bytes = fs::read(golden("container.gguf")).expect("a golden file");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("changed.gguf");
    let mut refused = 0;
    for index in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[index] ^= flip;
            fs::write(&path, &changed).expect("a writable directory");
            match GgufFile::open(&path) {
                Err(_) => refused += 1,
                Ok(file) => file.tensors.keys().for_each(|name| drop(file.tensor(name))),
            }
        }
    }
    assert!(refused > 500, "only {refused} changes were refused");
}

#[test]
fn errors_name_the_file_the_place_and_the_rule() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("file.gguf");
    let message = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a writable directory");
        GgufFile::open(&path).expect_err("no GGUF").to_string().replace(&path.display().to_string(), "PATH")
    };
    assert_eq!(
        message(b"PAR1 and more"),
        "`PATH` is not a valid GGUF file: at byte 4, the file must begin with `GGUF`; hint: copy or export the file again"
    );
    assert!(message(b"").contains("at byte 0, the file ends too early"));
    assert!(message(b"GGUF\0\0\0\x03").contains("the byte order must be little-endian"));
    assert!(message(b"GGUF\x09\0\0\0").contains("the version is `9`, must be 2 or 3"));
    let mut bytes = fs::read(golden("container.gguf")).expect("a golden file");
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(message(&bytes).contains("a length is `18446744073709551615`, must fit into the rest of the file"));
    let missing = GgufFile::open(&directory.path().join("none.gguf")).expect_err("no file");
    assert!(matches!(missing, ExportError::Read { .. }), "{missing}");
}

#[test]
fn a_refused_tensor_leaves_the_file_as_it_was() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.gguf");
    fs::write(&path, "before").expect("a writable directory");
    let mut tensors = every_grid();
    tensors[3].values.to_mut()[70] = f32::NAN;
    let error = write_container(&path, &every_type(), &tensors).expect_err("not finite");
    assert!(error.to_string().starts_with("tensor `small`: row 1, column 6 is `NaN`, must be finite"), "{error}");
    assert_eq!(fs::read(&path).expect("still there"), b"before");
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
}

//! The bytes are those of the `gguf` Python package; `tests/reference/quant_blocks.py` made the files.

use limbeck_quant::Grid;

const ROW_SIZE: usize = 96;
const VALUES: &[u8] = include_bytes!("golden/values.f32");

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

fn first_difference<T: PartialEq>(left: &[T], right: &[T]) -> Option<usize> {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).position(|(left, right)| left != right)
}

fn encodes_and_decodes_as(grid: Grid, encoded: &[u8], decoded: &[u8]) {
    encodes_and_decodes_rows_as(grid, VALUES, encoded, decoded);
}

fn encodes_and_decodes_rows_as(grid: Grid, values: &[u8], encoded: &[u8], decoded: &[u8]) {
    let bytes = grid.encode(&floats(values), ROW_SIZE).expect("the values fit the grid");
    assert_eq!(first_difference(&bytes, encoded), None, "{grid}: first byte that differs");
    let values = grid.decode(encoded, ROW_SIZE).expect("the bytes are whole rows");
    let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
    let expected: Vec<u32> = floats(decoded).iter().map(|value| value.to_bits()).collect();
    assert_eq!(first_difference(&bits, &expected), None, "{grid}: first value that differs");
}

#[test]
fn f32_is_the_little_endian_floats_themselves() {
    encodes_and_decodes_as(Grid::F32, VALUES, VALUES);
}

#[test]
fn f16_bytes_equal_those_of_the_gguf_package() {
    encodes_and_decodes_as(Grid::F16, include_bytes!("golden/f16.bytes"), include_bytes!("golden/f16.decoded.f32"));
}

#[test]
fn bf16_bytes_equal_those_of_the_gguf_package() {
    encodes_and_decodes_as(Grid::BF16, include_bytes!("golden/bf16.bytes"), include_bytes!("golden/bf16.decoded.f32"));
}

#[test]
fn q8_0_bytes_equal_those_of_the_gguf_package() {
    encodes_and_decodes_as(Grid::Q8_0, include_bytes!("golden/q8_0.bytes"), include_bytes!("golden/q8_0.decoded.f32"));
}

#[test]
fn q4_0_bytes_equal_those_of_the_gguf_package() {
    encodes_and_decodes_as(Grid::Q4_0, include_bytes!("golden/q4_0.bytes"), include_bytes!("golden/q4_0.decoded.f32"));
}

#[test]
fn q4_1_bytes_equal_those_of_the_gguf_package() {
    // Of the rows after these, some have scales without a finite inverse, for which C and numpy leave the codes undefined.
    let rows = 15;
    let (values, encoded) = (&VALUES[..rows * 96 * 4], &include_bytes!("golden/q4_1.bytes")[..rows * 60]);
    let decoded = &include_bytes!("golden/q4_1.decoded.f32")[..rows * 96 * 4];
    encodes_and_decodes_rows_as(Grid::Q4_1, values, encoded, decoded);
}

#[test]
fn five_bit_bytes_equal_those_of_the_gguf_package() {
    // The rows as above, without the one of negative zeros: its scale is 0 in the package and -0 in C, where the largest
    // magnitude begins with a zero of its own.
    let golden: [(Grid, &[u8], &[u8]); 2] = [
        (Grid::Q5_0, include_bytes!("golden/q5_0.bytes"), include_bytes!("golden/q5_0.decoded.f32")),
        (Grid::Q5_1, include_bytes!("golden/q5_1.bytes"), include_bytes!("golden/q5_1.decoded.f32")),
    ];
    for (grid, encoded, decoded) in golden {
        let row_bytes = grid.row_bytes(ROW_SIZE).expect("whole blocks");
        for rows in [0..9, 10..15] {
            let floats = rows.start * ROW_SIZE * 4..rows.end * ROW_SIZE * 4;
            let encoded = &encoded[rows.start * row_bytes..rows.end * row_bytes];
            encodes_and_decodes_rows_as(grid, &VALUES[floats.clone()], encoded, &decoded[floats]);
        }
    }
}

#[test]
fn k_quants_decode_as_in_the_gguf_package() {
    let golden: [(Grid, &[u8], &[u8]); 3] = [
        (Grid::Q4K, include_bytes!("golden/q4_k.bytes"), include_bytes!("golden/q4_k.decoded.f32")),
        (Grid::Q5K, include_bytes!("golden/q5_k.bytes"), include_bytes!("golden/q5_k.decoded.f32")),
        (Grid::Q6K, include_bytes!("golden/q6_k.bytes"), include_bytes!("golden/q6_k.decoded.f32")),
    ];
    for (grid, encoded, decoded) in golden {
        let bits = |values: Vec<f32>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let expected = bits(floats(decoded));
        assert_eq!(encoded.len(), 5 * grid.row_bytes(512).expect("whole blocks"));
        // At an odd address too: a file's tensor may be anywhere in memory.
        for start in [0, 1] {
            let moved = [&[0; 1][..start], encoded].concat();
            let values = grid.decode(&moved[start..], 512).expect("the bytes are whole rows");
            assert_eq!(first_difference(&bits(values), &expected), None, "{grid}: first value that differs");
        }
    }
}

//! The matrix product of a layer without bias.

use burn::tensor::Tensor;

/// `input · weightᵀ`.
///
/// # Shapes
/// - `input`: `[.., input_size]`
/// - `weight`: `[output_size, input_size]`, as PyTorch and Hugging Face store it
/// - output: `[.., output_size]`
pub fn linear<const D: usize>(input: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    let [output_size, input_size] = weight.dims();
    let mut shape = input.dims();
    let rows = shape.iter().product::<usize>() / input_size;
    shape[D - 1] = output_size;
    input.reshape([rows, input_size]).matmul(weight.transpose()).reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn::drawn;

    #[test]
    fn rows_meet_the_rows_of_the_weight() {
        let [batch, rows, input_size, output_size] = [2, 5, 7, 3];
        let input = drawn(1, [batch, rows, input_size], -1.0..1.0);
        let weight = drawn(2, [1, output_size, input_size], -1.0..1.0);
        let output = linear(input.clone(), weight.clone().squeeze_dim(0));
        assert_eq!(output.dims(), [batch, rows, output_size]);
        let [input, weight, output] = [input, weight, output].map(|t| t.into_data().try_to_vec::<f32>().unwrap());
        for (i, actual) in output.iter().enumerate() {
            let row = &input[i / output_size * input_size..][..input_size];
            let column = &weight[i % output_size * input_size..][..input_size];
            let expected: f64 = row.iter().zip(column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(*actual) - expected).abs() < 1e-6, "{i}: {actual} {expected}");
        }
    }
}

//! Blocks shared out among the threads: each block is a function of its own values, so their number changes nothing.

use rayon::prelude::*;

/// Values or bytes that a task handles, about.
const PER_TASK: usize = 1 << 14;

/// `convert` of every `N` of `source`, which is whole blocks of them, side by side.
pub(crate) fn each<Source, Target, const N: usize, const M: usize>(
    source: &[Source],
    convert: impl Fn(&[Source; N]) -> [Target; M] + Sync,
) -> Vec<Target>
where
    Source: Sync,
    Target: Copy + Default + Send,
{
    let blocks = source.as_chunks::<N>().0;
    let mut converted = vec![Target::default(); blocks.len() * M];
    let per_task = PER_TASK.div_ceil(N);
    let tasks = converted.as_chunks_mut::<M>().0.par_chunks_mut(per_task).zip(blocks.par_chunks(per_task));
    tasks.for_each(|(converted, blocks)| {
        for (converted, block) in converted.iter_mut().zip(blocks) {
            *converted = convert(block);
        }
    });
    converted
}

/// `convert` of pieces of `source`, each a multiple of `unit` long, side by side.
pub(crate) fn shared<Source, Target>(
    source: &[Source],
    unit: usize,
    convert: impl Fn(&[Source]) -> Vec<Target> + Send + Sync,
) -> Vec<Target>
where
    Source: Sync,
    Target: Clone + Send,
{
    let pieces: Vec<Vec<Target>> = source.par_chunks(PER_TASK.div_ceil(unit) * unit).map(convert).collect();
    pieces.concat()
}

/// `Σ importance · (value − decoded)²`.
pub(crate) fn weighted_error(values: &[f32], decoded: &[f32], importance: &[f32]) -> f64 {
    let differences = values.iter().zip(decoded).map(|(value, decoded)| f64::from(value - decoded));
    differences.zip(importance).map(|(difference, weight)| f64::from(*weight) * difference * difference).sum()
}

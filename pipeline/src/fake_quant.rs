//! `train.fake_quant`: training on the grid of an export. What is said of it, and what is refused.

use std::collections::BTreeMap;

use anyhow::anyhow;
use burn::tensor::Device;
use limbeck_config::{ActivationGrid, FakeQuantSection};
use limbeck_model::{Transformer, fake_quant_recipe};
use limbeck_quant::Stored;
use limbeck_train::say;

use crate::failure::Failure;

/// The section, if `model` can be trained so on `device`. Says on stderr in which grids its matrices are, and why others are
/// not in those that were asked for.
///
/// # Errors
/// No matrix whose rows are whole blocks of the grid of `weights`; 8-bit inputs elsewhere than on the CPU.
pub fn checked(
    section: Option<FakeQuantSection>,
    model: &Transformer,
    device: &Device,
) -> Result<Option<FakeQuantSection>, Failure> {
    let Some(section) = section else { return Ok(None) };
    let int8 = section.activations == ActivationGrid::Int8;
    if int8 && !limbeck_kernels::has_fused_operators(device) {
        return Err(Failure::usage(anyhow!(
            "train.fake_quant.activations is `int8`, must be `none` on this device; hint: use `none`, or `--device cpu`"
        )));
    }
    let stored = model.stored(&section);
    let grid = fake_quant_recipe(&section).blocks;
    if stored.values().all(|stored| stored.grid != grid) {
        let rows: BTreeMap<usize, &String> = stored.iter().map(|(name, stored)| (stored.row_size, name)).collect();
        let rows: Vec<String> = rows.iter().map(|(size, name)| format!("`{size}` of {name}")).collect();
        let (weights, block) = (section.weights.name(), grid.block_size());
        return Err(Failure::usage(anyhow!(
            "train.fake_quant.weights is `{weights}`, but no matrix has rows of whole blocks of `{block}` values: there are \
             rows of {}; hint: use a hidden_size and an intermediate_size that are multiples of `{block}`",
            rows.join(", ")
        )));
    }
    describe(&stored);
    if int8 {
        say!("fake quant: what matrices in blocks of 32 read is rounded to 8 bits");
    }
    say!("fake quant: held-out losses are those of the rounded weights; checkpoints hold what they are rounded from");
    Ok(Some(section))
}

fn describe(stored: &BTreeMap<String, Stored>) {
    let mut groups: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for (name, stored) in stored {
        groups.entry(stored.to_string()).or_default().push(name);
    }
    for (how, names) in groups {
        let others = match names.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        say!("fake quant: {}{others}: {how}", names[0]);
    }
}

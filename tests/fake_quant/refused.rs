//! Grids that there are not, and models that do not fit them.

use crate::support::sandbox::Sandbox;

fn refused(sandbox: &Sandbox, sets: &[&str], fragments: &[&str]) -> anyhow::Result<()> {
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    sandbox.stage("pretrain", &sets)?.refused(2, &[fragments, &["hint: "]].concat())?;
    assert!(!sandbox.path("checkpoints/trial/teacher/config.toml").exists());
    Ok(())
}

#[test]
fn an_unknown_grid_is_refused_with_those_that_there_are() -> anyhow::Result<()> {
    let sandbox = Sandbox::with_configs()?;
    let weights = "train.fake_quant.weights is `\"q3_0\"`, must be one of `q4_0`, `q8_0`";
    refused(&sandbox, &["train.fake_quant={weights=\"q3_0\"}"], &[weights])?;
    let embeddings = "train.fake_quant.embeddings is `\"q5_k\"`, must be one of `q8_0`, `q6_k`, `none`";
    refused(&sandbox, &["train.fake_quant={weights=\"q4_0\", embeddings=\"q5_k\"}"], &[embeddings])?;
    let activations = "train.fake_quant.activations is `\"int4\"`, must be one of `none`, `int8`";
    refused(&sandbox, &["train.fake_quant={weights=\"q4_0\", activations=\"int4\"}"], &[activations])?;
    refused(&sandbox, &["train.fake_quant={}"], &["train.fake_quant.weights is missing"])
}

#[test]
fn rows_that_are_nowhere_whole_blocks_are_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let message = "train.fake_quant.weights is `q4_0`, but no matrix has rows of whole blocks of `32` values";
    let rows = ["`16` of model.layers.1.self_attn.o_proj.weight", "`18` of ", "`26` of "];
    refused(&sandbox, &["train.fake_quant={weights=\"q4_0\"}"], &[&[message], &rows[..]].concat())
}

#[test]
fn an_importance_of_nothing_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let refused = |importance: &str, fragments: &[&str]| {
        let importance = format!("export.importance={importance}");
        let sets = ["export.from=checkpoints/trial/teacher", "export.formats=[\"gguf_q4_0\"]", &importance];
        let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
        sandbox.stage("export-model", &sets)?.refused(2, &[fragments, &["hint: "]].concat())
    };
    refused("{data=[]}", &["export.importance.data is missing, must have at least one entry"])?;
    refused("{data=[{path=\"nowhere.txt\"}]}", &["nowhere.txt"])?;
    let data = "data=[{path=\"data/tiny/valid.parquet\"}]";
    refused(&format!("{{{data}, calibration_tokens=0}}"), &["export.importance.calibration_tokens is `0`"])?;
    let longer = "export.importance.sequence_length is `49`, must be at most `48`";
    refused(&format!("{{{data}, sequence_length=49}}"), &[longer])?;
    assert!(!sandbox.path("checkpoints/trial/export").exists());
    Ok(())
}

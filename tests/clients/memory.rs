//! The sizes of the device card are those of the files, and of what llama.cpp says that it allocates.

use std::ffi::OsStr;
use std::fs;

use anyhow::{Context, ensure};
use limbeck::export_model::ExportRecord;
use limbeck::fit::{CacheType, activation_bytes, cache_bytes, stored_size};
use limbeck_config::ExportFormat;
use limbeck_model::read_config;
use serde_json::json;

use super::check;
use super::files::files;

const FORMATS: [ExportFormat; 10] = [
    ExportFormat::HuggingFace,
    ExportFormat::GgufF32,
    ExportFormat::GgufF16,
    ExportFormat::GgufQ8_0,
    ExportFormat::GgufQ6K,
    ExportFormat::GgufQ5KM,
    ExportFormat::GgufQ4KM,
    ExportFormat::GgufQ4_0,
    ExportFormat::MlxQ8,
    ExportFormat::MlxQ4,
];

/// Of a tied and two untied models, in every format, with rows that are whole K-blocks and with rows that fall back.
#[test]
fn the_predicted_size_is_the_files_to_a_hundredth() -> anyhow::Result<()> {
    for files in files()? {
        let config = read_config(&files.step)?;
        let record: ExportRecord = serde_json::from_slice(&fs::read(files.export.join("export.json"))?)?;
        ensure!(record.files.len() == FORMATS.len(), "a format is not looked at");
        for format in FORMATS {
            let file = record.files.get(format.name()).context(format.name())?;
            let path = files.export.join(&file.path);
            let path = if path.is_dir() { path.join("model.safetensors") } else { path };
            let (found, predicted) = (path.metadata()?.len() as f64, stored_size(&config, format).file_bytes() as f64);
            let off = predicted / found - 1.0;
            ensure!(off.abs() <= 0.01, "{}: {predicted} predicted, {found} found, {off:.4} off", path.display());
        }
    }
    Ok(())
}

/// The cache to the last digit that llama.cpp prints, activations to a quarter: they are fitted. At contexts that are padded and
/// that are not.
#[test]
fn llama_cpp_allocates_what_the_card_says() -> anyhow::Result<()> {
    for files in files()? {
        let config = read_config(&files.step)?;
        let at = |context: usize| {
            json!({
                "context": context,
                "cache_f16_bytes": cache_bytes(&config, context, CacheType::F16),
                "cache_q8_0_bytes": cache_bytes(&config, context, CacheType::Q8_0),
                "activation_bytes": activation_bytes(&config, context),
            })
        };
        let path = files.root.join("memory.json");
        fs::write(&path, json!([at(512), at(3000), at(8192)]).to_string())?;
        let gguf = files.export.join("model-f16.gguf");
        check(
            "check_memory.py",
            &[OsStr::new("--gguf"), gguf.as_os_str(), OsStr::new("--expected"), path.as_os_str()],
        )?;
    }
    Ok(())
}

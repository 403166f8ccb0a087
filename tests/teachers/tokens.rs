//! The tokens are those of the tokenizer that the file was made with.

use std::path::Path;

use anyhow::ensure;
use burn::tensor::Device;
use limbeck::source;
use limbeck_data::{Message, Role, Tokenizer};
use limbeck_export::{GgufType, read_gguf_tokenizer, write_gguf};
use limbeck_model::{load_directory, parameters};

use super::path;
use crate::clients::fuzzed_texts;

/// The tokenizer of a directory after a journey through a GGUF file.
fn through_gguf(directory: &Path) -> anyhow::Result<Tokenizer> {
    let model = load_directory(directory, &Device::flex())?;
    let temporary = tempfile::tempdir()?;
    let file = temporary.path().join("model.gguf");
    write_gguf(&file, model.config(), &parameters(&model), directory, GgufType::F16)?;
    Ok(read_gguf_tokenizer(&file)?)
}

#[test]
fn a_tokenizer_comes_back_from_a_gguf_file_as_it_went_in() -> anyhow::Result<()> {
    for name in ["llama", "qwen2"] {
        let (original, read) = (Tokenizer::load(path(name))?, through_gguf(&path(name))?);
        original.check_same(&read)?;
        assert_eq!(read.hash(), original.hash());
        let ends = |t: &Tokenizer| (t.begin_of_text(), t.end_of_text(), t.end_of_turn(), t.vocab_size());
        assert_eq!(ends(&read), ends(&original));
        let chat = [Message::new(Role::User, "the <|eot_id|> cat"), Message::new(Role::Assistant, "sat <|im_end|>\n")];
        assert_eq!(read.encode_chat(&chat)?, original.encode_chat(&chat)?);
        for text in fuzzed_texts(2000) {
            let (ours, theirs) = (read.encode(&text)?, original.encode(&text)?);
            // The long s, U+017F, is none of llama.cpp's contractions.
            ensure!(ours == theirs || text.contains('\u{17f}'), "{name}: {text:?}: {ours:?} {theirs:?}");
        }
    }
    Ok(())
}

#[test]
fn digits_in_threes_and_merges_tell_one_pre_tokenizer_from_another() -> anyhow::Result<()> {
    let [llama, qwen2] = [through_gguf(&path("llama"))?, through_gguf(&path("qwen2"))?];
    let pieces = |tokenizer: &Tokenizer, text: &str| -> anyhow::Result<Vec<String>> {
        Ok(tokenizer.encode(text)?.into_iter().map(|id| tokenizer.token(id).unwrap_or_default()).collect())
    };
    // `12` is a merge, which a pattern that cuts every digit off never lets happen.
    assert_eq!(pieces(&llama, "the 12")?, ["the", "Ġ", "12"]);
    assert_eq!(pieces(&qwen2, "the 12")?, ["the", "Ġ", "1", "2"]);
    Ok(())
}

#[test]
fn the_ends_of_a_file_are_found_by_text_and_by_id() -> anyhow::Result<()> {
    let tokenizer = source::tokenizer("--from", &path("mixed.gguf")).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    // `<|endoftext|>`, `<|im_start|>`, `<|im_end|>`; the two that fill up the embedding are none of its tokens.
    assert_eq!((tokenizer.begin_of_text(), tokenizer.end_of_text(), tokenizer.end_of_turn()), (0, 0, 2));
    assert_eq!(tokenizer.stop_ids(), [2, 0]);
    assert_eq!(tokenizer.vocab_size(), 3 + 96 + 24);
    let prompt = tokenizer.render_chat(&[Message::new(Role::User, "hat?")], true)?;
    assert_eq!(prompt, "<|im_start|>user\nhat?<|im_end|>\n<|im_start|>assistant\n");
    let ids = tokenizer.encode("<|im_end|> the cat")?;
    assert_eq!(tokenizer.decode(&ids)?, "<|im_end|> the cat");
    ensure!(ids.iter().all(|id| *id > 2), "a special token in a text is text: {ids:?}");
    // Digits one by one, and a byte without a token is left out, as in `tokenizers`.
    assert_eq!(tokenizer.decode(&tokenizer.encode("12 caf\u{e9}s")?)?, "12 cafs");
    // The model of the directory names three ends in generation_config.json.
    let llama = Tokenizer::load(path("llama"))?;
    assert_eq!(llama.stop_ids(), [284, 281, 283]);
    Ok(())
}

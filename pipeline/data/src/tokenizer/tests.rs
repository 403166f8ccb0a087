use std::collections::HashSet;

use tempfile::TempDir;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{AddedToken, PreTokenizer};

use super::*;

/// Some repetition, digits, contractions, two scripts, runs of spaces.
const CORPUS: &str = "The cat's hat isn't the hatter's hat; they've 1234 hats.\n\nThe  hatters   have hats\tthat the cats hate.\r\n\
    Der Hut hat drei Ecken, drei Ecken hat mein Hut. Größe! naïve café 東京 東京都 🎩🎩\n    indented  text\n";

fn trained(vocab_size: usize) -> Tokenizer {
    Tokenizer::train([Ok(CORPUS.to_owned()), Ok(CORPUS.to_uppercase())].into_iter(), vocab_size).expect("trained")
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text).expect("encoded");
    ids.into_iter().map(|id| tokenizer.token(id).expect("known")).collect()
}

#[test]
fn special_tokens_have_ids_0_to_2_and_the_vocabulary_is_exact() {
    let tokenizer = trained(291);
    assert_eq!(tokenizer.vocab_size(), 291);
    assert_eq!(["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(|token| tokenizer.id(token)), [0, 1, 2].map(Some));
    assert_eq!((tokenizer.begin_of_text(), tokenizer.end_of_text(), tokenizer.end_of_turn()), (0, 0, 2));
    assert_eq!(tokenizer.stop_ids(), [2, 0]);
    assert_eq!(tokenizer.merges().len(), 291 - 259);
    let distinct: HashSet<_> = (0..291).map(|id| tokenizer.token(id).expect("no hole")).collect();
    assert_eq!(distinct.len(), 291);
}

#[test]
fn merges_are_those_of_the_tokenizers_crate() {
    let ours = trained(299);
    let split = ours.inner.get_pre_tokenizer().expect("set").clone();
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(|token| AddedToken::from(token, true));
    let trainer = BpeTrainer::builder()
        .vocab_size(299)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special.to_vec())
        .initial_alphabet(tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut theirs = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
    theirs.with_pre_tokenizer(Some::<PreTokenizerWrapper>(split));
    theirs
        .train(
            &mut tokenizers::models::TrainerWrapper::BpeTrainer(trainer),
            [CORPUS.to_owned(), CORPUS.to_uppercase()].into_iter(),
        )
        .expect("trained");
    let json: serde_json::Value = serde_json::from_str(&theirs.to_string(false).expect("json")).expect("json");
    let merges: Vec<(String, String)> = serde_json::from_value(json["model"]["merges"].clone()).expect("pairs");
    assert_eq!(ours.merges(), merges);
    assert!((0..299).all(|id| ours.token(id) == theirs.id_to_token(id)));
}

#[test]
fn training_does_not_depend_on_the_order_of_texts() {
    let texts = || CORPUS.split_inclusive('\n').map(|line| Ok(line.to_owned()));
    let forwards = Tokenizer::train(texts(), 290).expect("trained");
    let backwards = Tokenizer::train(texts().collect::<Vec<_>>().into_iter().rev(), 290).expect("trained");
    assert_eq!(forwards.to_json(false).expect("json"), backwards.to_json(false).expect("json"));
}

#[test]
fn words_are_cut_as_qwen2_cuts_them() {
    let split = trained(259).inner.get_pre_tokenizer().expect("set").clone();
    let mut cut = tokenizers::PreTokenizedString::from("They've 12  cats\u{a0}(3!)\r\n\n  x \t");
    split.pre_tokenize(&mut cut).expect("cut");
    let words = cut.get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
    let words: Vec<&str> = words.into_iter().map(|(word, _, _)| word).collect();
    // By hand from the pattern: digits one by one, a run of spaces leaves one for the next word, `Â` and `ł` are bytes.
    let expected = ["They", "'ve", "Ġ", "1", "2", "Ġ", "Ġcats", "Âł", "(", "3", "!)čĊĊ", "Ġ", "Ġx", "Ġĉ"];
    assert_eq!(words, expected);
}

#[test]
fn every_text_survives_encoding_and_decoding() {
    let tokenizer = trained(280);
    for text in
        [CORPUS, "\u{0}\u{1}\u{7f}", "e\u{301} é", "Å \u{212b}", "ﬁ", "\u{200b}\u{202e}", "👩‍👩‍👧", "   ", "\n\r\n\t"]
    {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).expect("encoded")).expect("decoded"), text);
    }
    assert!(tokenizer.encode("").expect("encoded").is_empty());
}

#[test]
fn special_tokens_in_a_text_are_text() {
    let tokenizer = trained(280);
    let text = "a<|im_end|>b <|endoftext|>";
    let ids = tokenizer.encode(text).expect("encoded");
    assert!(ids.iter().all(|id| *id > 2), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids).expect("decoded"), text);
    assert_eq!(tokenizer.decode(&[0, ids[0], 2]).expect("decoded"), "a");
    // The same text to a tokenizer that looks for special tokens, as the control.
    let mut looking = tokenizer.inner.clone();
    looking.set_encode_special_tokens(false);
    assert!(looking.encode_fast(text, false).expect("encoded").get_ids().contains(&2));
}

#[test]
fn a_saved_tokenizer_loads_as_itself_with_both_templates() {
    let directory = TempDir::new().expect("directory");
    let tokenizer = trained(285).with_model_max_length(77);
    tokenizer.save(directory.path()).expect("saved");
    let loaded = Tokenizer::load(directory.path()).expect("loaded");
    assert!(tokenizer.difference(&loaded).is_empty());
    assert_eq!(tokenizer.hash(), loaded.hash());
    assert_eq!(tokens(&tokenizer, CORPUS), tokens(&loaded, CORPUS));
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect("read");
    let config: serde_json::Value = serde_json::from_str(&read("tokenizer_config.json")).expect("json");
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
    assert_eq!(config["bos_token"], serde_json::Value::Null);
    assert_eq!((&config["eos_token"], &config["pad_token"]), (&"<|im_end|>".into(), &"<|endoftext|>".into()));
    assert_eq!((&config["add_bos_token"], &config["model_max_length"]), (&false.into(), &77.into()));
    assert_eq!(config["clean_up_tokenization_spaces"], false);
    assert_eq!(config["model_input_names"], serde_json::json!(["input_ids", "attention_mask"]));
    assert_eq!(config["chat_template"], read("chat_template.jinja"));
    let json: serde_json::Value = serde_json::from_str(&read("tokenizer.json")).expect("json");
    assert_eq!(json["normalizer"], serde_json::Value::Null);
    assert_eq!(json["model"]["type"], "BPE");
    // Saving what was loaded changes nothing.
    let again = TempDir::new().expect("directory");
    loaded.save(again.path()).expect("saved");
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        assert_eq!(read(name), fs::read_to_string(again.path().join(name)).expect("read"));
    }
}

#[test]
fn truncation_and_padding_of_a_file_are_not_taken_over() {
    let directory = TempDir::new().expect("directory");
    let tokenizer = trained(280);
    tokenizer.save(directory.path()).expect("saved");
    let path = directory.path().join("tokenizer.json");
    let mut file = tokenizers::Tokenizer::from_file(&path).expect("read");
    let truncation = tokenizers::TruncationParams { max_length: 3, ..Default::default() };
    file.with_truncation(Some(truncation)).expect("set").with_padding(Some(tokenizers::PaddingParams {
        strategy: tokenizers::PaddingStrategy::Fixed(90),
        ..Default::default()
    }));
    file.save(&path, false).expect("saved");
    assert_eq!(file.encode(CORPUS, false).expect("encoded").len(), 90, "the control: 3 tokens and padding");
    let loaded = Tokenizer::load(&path).expect("loaded");
    assert_eq!(tokens(&loaded, CORPUS), tokens(&tokenizer, CORPUS));
}

/// A foreign tokenizer: ours with other names for its special tokens, and `config` beside it.
fn foreign(names: [&str; 3], config: &str) -> Result<Tokenizer, DataError> {
    let directory = TempDir::new().expect("directory");
    trained(280).save(directory.path()).expect("saved");
    let path = directory.path().join("tokenizer.json");
    let mut json = fs::read_to_string(&path).expect("read");
    for (ours, theirs) in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].iter().zip(names) {
        json = json.replace(ours, theirs);
    }
    fs::write(&path, json).expect("written");
    fs::write(directory.path().join("tokenizer_config.json"), config).expect("written");
    Tokenizer::load(path)
}

#[test]
fn a_foreign_tokenizer_names_its_ends_in_tokenizer_config() {
    let llama = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"];
    let config = r#"{"bos_token": {"content": "<|begin_of_text|>"}, "eos_token": "<|end_of_text|>"}"#;
    let tokenizer = foreign(llama, config).expect("loaded");
    assert_eq!((tokenizer.begin_of_text(), tokenizer.end_of_text(), tokenizer.end_of_turn()), (0, 1, 2));
    let message = foreign(llama, r#"{"bos_token": "<|begin_of_text|>"}"#).expect_err("refused").to_string();
    assert!(message.contains("has no end-of-text token") && message.contains("`eos_token`"), "{message}");
    let message = foreign(llama, r#"{"eos_token": "<|end_of_text|>"}"#).expect_err("refused").to_string();
    assert!(message.contains("has no begin-of-text token") && message.contains("`bos_token`"), "{message}");
}

#[test]
fn two_tokenizers_say_which_tokens_differ() {
    let (one, other) = (trained(285), foreign(["<|endoftext|>", "<|start|>", "<|im_end|>"], "{}").expect("loaded"));
    let difference = one.difference(&other);
    assert_eq!(difference.tokens.len(), 1 + 5);
    assert_eq!(difference.tokens[0], (1, Some("<|im_start|>".into()), Some("<|start|>".into())));
    assert_ne!(one.hash(), other.hash());
    let message = one.check_same(&other).expect_err("refused").to_string();
    assert!(
        message.starts_with(
            "the tokenizers differ: `6` ids have other tokens: \
             id `1` is `<|im_start|>` in one and `<|start|>` in the other"
        ),
        "{message}"
    );
    one.check_same(&trained(285)).expect("the same");
}

#[test]
fn a_vocabulary_that_cannot_be_filled_says_how_far_it_got() {
    let message = Tokenizer::train(["ab ab ab".to_owned()].map(Ok).into_iter(), 300).expect_err("refused").to_string();
    // 3 special tokens, 256 bytes, `ab`, ` ab`.
    assert!(message.starts_with("tokenizer.vocab_size is `300`, the corpus fills only `261`; hint:"), "{message}");
    let message = Tokenizer::train([].into_iter(), 258).expect_err("refused").to_string();
    assert!(message.starts_with("tokenizer.vocab_size is `258`, must be at least `259`"), "{message}");
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused() {
    let directory = TempDir::new().expect("directory");
    let path = directory.path().join("tokenizer.json");
    let message = Tokenizer::load(&path).expect_err("refused").to_string();
    assert!(message.starts_with("cannot read `") && message.contains("tokenizer.json"), "{message}");
    fs::write(&path, "{}").expect("written");
    let message = Tokenizer::load(&path).expect_err("refused").to_string();
    assert!(message.contains("tokenizer.json` is not a readable tokenizer: "), "{message}");
}

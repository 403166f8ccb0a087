use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::world::{Split, World};

/// A tokenizer of the embedded world, what some of its documents use, and those documents.
struct Example {
    whole: Tokenizer,
    counts: Vec<u64>,
    texts: Vec<String>,
}

static EXAMPLE: LazyLock<Example> = LazyLock::new(|| {
    let mut texts: Vec<String> = World::new(3).documents(Split::Train, 400).map(|document| document.text).collect();
    let whole = Tokenizer::train(texts.iter().cloned().map(Ok), 700).expect("trained");
    texts.truncate(8);
    let mut counts = vec![0; 700];
    for id in texts.iter().flat_map(|text| whole.encode(text).expect("encoded")) {
        counts[id as usize] += 1;
    }
    Example { whole, counts, texts }
});

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text).expect("encoded");
    ids.into_iter().map(|id| tokenizer.token(id).expect("known")).collect()
}

#[test]
fn texts_whose_tokens_all_stay_are_tokenised_as_before() {
    let Example { whole, counts, texts } = &*EXAMPLE;
    let restricted = whole.restrict(counts, None).expect("restricted");
    assert!(restricted.vocab_size() < 650, "{}", restricted.vocab_size());
    for text in texts {
        assert_eq!(tokens(&restricted, text), tokens(whole, text));
    }
    // Every piece of them too, whose words are cut elsewhere.
    let (mut same, mut others) = (0, 0);
    for text in texts {
        for start in (0..text.len()).step_by(7) {
            let piece = &text[start..(start + 23).min(text.len())];
            let before = tokens(whole, piece);
            if before.iter().all(|token| restricted.id(token).is_some()) {
                assert_eq!(tokens(&restricted, piece), before);
                same += 1;
            } else {
                others += 1;
            }
        }
    }
    assert!(same > 100 && others > 10, "{same} {others}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_loses_a_byte(text in "(?s).{0,40}", words in proptest::collection::vec("[A-Za-z]{1,9}", 0..6)) {
        let Example { whole, counts, .. } = &*EXAMPLE;
        for size in [None, Some(300)] {
            let restricted = whole.restrict(counts, size).expect("restricted");
            for text in [text.clone(), words.join(" ")] {
                let ids = restricted.encode(&text).expect("encoded");
                prop_assert_eq!(restricted.decode(&ids).expect("decoded"), text.clone());
                let before = tokens(whole, &text);
                if before.iter().all(|token| restricted.id(token).is_some()) {
                    prop_assert_eq!(tokens(&restricted, &text), before);
                }
            }
        }
    }
}

#[test]
fn bytes_and_special_tokens_stay_with_dense_ids_in_the_old_order() {
    let Example { whole, counts, .. } = &*EXAMPLE;
    let restricted = whole.restrict(counts, Some(300)).expect("restricted");
    assert_eq!(restricted.vocab_size(), 300);
    assert_eq!((restricted.begin_of_text(), restricted.end_of_text(), restricted.end_of_turn()), (0, 0, 2));
    assert_eq!(restricted.chat_template(), whole.chat_template());
    let rows = restricted.rows_in(whole).expect("a restriction").expect("another one");
    assert!(rows.is_sorted_by(|one, other| one < other));
    // 3 special tokens and 256 bytes come first in ours.
    assert_eq!(rows[..259], (0..259).collect::<Vec<u32>>());
    for (id, row) in (0..).zip(&rows) {
        assert_eq!(restricted.token(id), whole.token(*row));
    }
    // What a token is merged from stays.
    for (left, right) in restricted.merges() {
        assert!(restricted.id(&left).is_some() && restricted.id(&right).is_some());
    }
    let made = restricted.merges().into_iter().map(|(left, right)| left + &right).collect::<BTreeSet<_>>();
    assert_eq!(made.len(), 300 - 259);
}

#[test]
fn the_most_frequent_tokens_stay() {
    let Example { whole, counts, .. } = &*EXAMPLE;
    let restricted = whole.restrict(counts, Some(300)).expect("restricted");
    let most = (259..700).max_by_key(|id| counts[*id as usize]).expect("one");
    assert!(restricted.id(&whole.token(most).expect("known")).is_some());
    let kept = |size| -> u64 {
        let restricted = whole.restrict(counts, Some(size)).expect("restricted");
        let stays = |id: &u32| whole.token(*id).is_some_and(|token| restricted.id(&token).is_some());
        (0..700).filter(stays).map(|id| counts[id as usize]).sum()
    };
    // By hand: the counts that any 41 tokens other than bytes can have at most.
    let mut largest: Vec<u64> = counts[259..].to_vec();
    largest.sort_unstable_by_key(|count| Reverse(*count));
    let bytes: u64 = counts[..259].iter().sum();
    let most = bytes + largest[..41].iter().sum::<u64>();
    // Tokens bring those that they are merged from.
    assert!(kept(300) <= most && kept(300) as f64 > 0.8 * most as f64, "{} of {most}", kept(300));
    assert!(kept(300) < kept(350) && kept(350) < kept(400));
}

#[test]
fn a_size_that_does_not_fit_is_refused() {
    let Example { whole, counts, .. } = &*EXAMPLE;
    let message = |size| whole.restrict(counts, Some(size)).expect_err("refused").to_string();
    assert!(message(258).starts_with("tokenizer.vocab_size is `258`, must be at least `259`"), "{}", message(258));
    let used = whole.restrict(counts, None).expect("restricted").vocab_size();
    let expected = format!("tokenizer.vocab_size is `{}`, the corpus fills only `{used}`; hint: ", used + 1);
    assert!(message(used + 1).starts_with(&expected), "{}", message(used + 1));
    assert_eq!(whole.restrict(counts, Some(used)).expect("restricted").vocab_size(), used);
}

/// `tokenizer` as a file, changed by `change` and loaded again.
fn changed(tokenizer: &Tokenizer, change: impl FnOnce(&mut Value, &mut Value)) -> Tokenizer {
    let directory = TempDir::new().expect("directory");
    tokenizer.save(directory.path()).expect("saved");
    let [file, config] = ["tokenizer.json", "tokenizer_config.json"].map(|name| directory.path().join(name));
    let [mut json, mut keys] =
        [&file, &config].map(|path| -> Value { serde_json::from_slice(&fs::read(path).expect("read")).expect("json") });
    change(&mut json, &mut keys);
    fs::write(file, json.to_string()).expect("written");
    fs::write(config, keys.to_string()).expect("written");
    Tokenizer::load(directory.path()).expect("loaded")
}

#[test]
fn what_names_ids_of_its_own_gets_the_new_ones() {
    let Example { whole, counts, .. } = &*EXAMPLE;
    let foreign = changed(whole, |json, keys| {
        let token = |id, content, special| {
            json!({ "id": id, "content": content, "special": special, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false })
        };
        // Beyond the model's vocabulary, and no special one.
        json["added_tokens"].as_array_mut().expect("list").push(token(700, "<tool>", false));
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<|im_end|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                       { "SpecialToken": { "id": "<tool>", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": {
                "<|im_end|>": { "id": "<|im_end|>", "ids": [2], "tokens": ["<|im_end|>"] },
                "<tool>": { "id": "<tool>", "ids": [700], "tokens": ["<tool>"] },
            },
        });
        keys["added_tokens_decoder"] = json!({ "2": { "content": "<|im_end|>" }, "700": { "content": "<tool>" } });
    });
    assert_eq!(foreign.vocab_size(), 701);
    let mut counts = counts.clone();
    counts.push(0);
    let restricted = foreign.restrict(&counts, Some(320)).expect("restricted");
    assert_eq!((restricted.vocab_size(), restricted.id("<tool>")), (320, Some(319)));
    let ids = restricted.inner.encode_fast("a", true).expect("encoded").get_ids().to_vec();
    assert_eq!(ids, [2, restricted.id("a").expect("a byte"), 319]);
    let config = restricted.config.to_json(None, None);
    assert_eq!(
        config["added_tokens_decoder"],
        json!({ "2": { "content": "<|im_end|>" }, "319": { "content": "<tool>" } })
    );
    // It survives its file.
    let again = changed(&restricted, |_, _| ());
    assert_eq!((again.hash(), again.id("<tool>")), (restricted.hash(), Some(319)));
}

#[test]
fn whole_words_without_merges_stay_alone() {
    let Example { whole, counts, .. } = &*EXAMPLE;
    let mut counts = counts.clone();
    let id = (259..700).rev().find(|id| whole.token(*id).is_some_and(|token| token.len() > 5)).expect("a long one");
    let word = whole.token(id).expect("known");
    let foreign = changed(whole, |json, _| {
        json["model"]["ignore_merges"] = true.into();
        let merges = json["model"]["merges"].as_array_mut().expect("list");
        merges.retain(|merge| format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()) != word);
    });
    counts.fill(0);
    counts[id as usize] = 1;
    let restricted = foreign.restrict(&counts, None).expect("restricted");
    assert_eq!(restricted.vocab_size(), 260);
    let text = foreign.decode(&[id]).expect("decoded");
    assert_eq!(tokens(&restricted, &text), [word]);
}

#[test]
fn a_tokenizer_that_is_no_restriction_is_refused_by_the_first_difference() {
    let Example { whole, counts, .. } = &*EXAMPLE;
    let restricted = whole.restrict(counts, Some(320)).expect("restricted");
    assert_eq!(whole.rows_in(whole).expect("the same"), None);
    let refused = |tokenizer: &Tokenizer, fragment: &str| {
        let message = tokenizer.rows_in(whole).expect_err("refused").to_string();
        assert!(message.contains(fragment) && message.contains("; hint: "), "`{fragment}` is not in: {message}");
    };
    let rename = |json: &mut Value| {
        let vocabulary = json["model"]["vocab"].as_object_mut().expect("map");
        let id = vocabulary.remove("!").expect("a byte");
        vocabulary.insert("東".to_owned(), id);
        json["model"]["merges"].as_array_mut().expect("list").retain(|merge| !merge.to_string().contains('!'));
    };
    refused(&changed(&restricted, |json, _| rename(json)), "its token `東` (id `3`) is not in the other");
    let swap = |json: &mut Value| json["model"]["merges"].as_array_mut().expect("list").swap(4, 9);
    refused(&changed(&restricted, |json, _| swap(json)), "its merge `4` is `");
    let drop = |json: &mut Value| json["model"]["merges"].as_array_mut().expect("list").truncate(40);
    refused(&changed(&restricted, |json, _| drop(json)), "its merge `40` is nothing, and with its tokens the other's");
    let plain = |json: &mut Value| json["added_tokens"][1]["special"] = false.into();
    refused(&changed(&restricted, |json, _| plain(json)), "`<|im_start|>` is a special token in one of them alone");
    let nfc = |json: &mut Value| json["normalizer"] = json!({ "type": "NFC" });
    refused(&changed(&restricted, |json, _| nfc(json)), "its tokenizer.json has another `normalizer`");
    let cut = |json: &mut Value| json["pre_tokenizer"]["pretokenizers"][0]["invert"] = true.into();
    refused(&changed(&restricted, |json, _| cut(json)), "its tokenizer.json has another `pre_tokenizer`");
    let ignoring = |json: &mut Value| json["model"]["ignore_merges"] = true.into();
    refused(&changed(&restricted, |json, _| ignoring(json)), "its tokenizer.json has another `model`");
    // The other way round it is no restriction either.
    let message = whole.rows_in(&restricted).expect_err("refused").to_string();
    assert!(message.contains("is not in the other"), "{message}");
}

#[test]
fn what_is_no_byte_level_bpe_is_refused() {
    let Example { whole, counts, .. } = &*EXAMPLE;
    let refused = |change: fn(&mut Value), found: &str| {
        let message = changed(whole, |json, _| change(json)).restrict(counts, None).expect_err("refused").to_string();
        assert!(message.contains(&format!("has {found}, must be a byte-level BPE")), "{message}");
    };
    refused(|json| json["pre_tokenizer"] = Value::Null, "no `ByteLevel` pre-tokenizer");
    refused(|json| json["model"]["end_of_word_suffix"] = "</w>".into(), "`end_of_word_suffix`");
}

//! Prompts, texts and chats on which clients are compared with us.

use anyhow::Context;
use limbeck_data::{Message, Role, Tokenizer};
use serde_json::{Value, json};

use crate::support::numbers::Numbers;

/// Texts whose tokens are compared.
pub(super) const TEXTS: usize = 10_000;

/// Words, digits, contractions, punctuation and other scripts, half-written special tokens among them.
const PIECES: &str = "the Tom's I'LL we're 12 3.5 2026 café naïve 你好 мир नमस्ते 😀 👋🏽 -- (x) ' \" _ # ٣ ½ ² <|im_ Ⅷ ΐ ﬁ ̈ \
                      Casper flute coins.";

/// In between. A blank is there twice, for it is the most frequent.
const BLANKS: [&str; 12] =
    [" ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u{a0}", "\u{3000}", "\u{200d}"];

/// Where letters are drawn from: first and end of ranges of code points.
const SCRIPTS: [[u32; 2]; 7] = [
    [0x20, 0x7f],       // ASCII
    [0xa1, 0x250],      // Latin
    [0x370, 0x500],     // Greek and Cyrillic
    [0x600, 0x6ff],     // Arabic
    [0x900, 0x97f],     // Devanagari
    [0x4e00, 0x9fff],   // Chinese characters
    [0x1f300, 0x1f600], // Emoji
];

/// A short text, and one that ends within a word.
const PROMPTS: [&str; 2] = [
    "Casper was a tailor",
    "One Sunday he had 26 coins in his pocket. The wind blew from the north, so the mill turned fast. He wanted a blue flute \
     of bo",
];

/// A lone token, two texts, and a question.
pub(super) fn prompts(tokenizer: &Tokenizer) -> anyhow::Result<Vec<Vec<u32>>> {
    let begin = tokenizer.begin_of_text();
    let mut prompts = vec![vec![begin]];
    for text in PROMPTS {
        prompts.push([vec![begin], tokenizer.encode(text)?].concat());
    }
    prompts.push(tokenizer.encode_prompt(&question())?);
    Ok(prompts)
}

/// [`prompts`] as texts with special tokens in them.
pub(super) fn prompt_texts(tokenizer: &Tokenizer) -> anyhow::Result<Vec<String>> {
    let begin = tokenizer.token(tokenizer.begin_of_text()).context("the token is there")?;
    let mut texts = vec![begin.clone()];
    texts.extend(PROMPTS.map(|text| format!("{begin}{text}")));
    texts.push(tokenizer.render_chat(&question(), true)?);
    Ok(texts)
}

fn question() -> [Message; 1] {
    [Message::new(Role::User, "What is 18 plus 72?")]
}

/// `count` texts with their tokens, chats with their rendering, and the tokens that end a text.
pub(super) fn token_facts(tokenizer: &Tokenizer, count: usize) -> anyhow::Result<Value> {
    let texts = texts(count);
    let ids = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
    let chats = chats().into_iter().map(|messages| {
        let (text, ids) = (tokenizer.render_chat(&messages, true)?, tokenizer.encode_prompt(&messages)?);
        Ok(json!({ "messages": messages, "text": text, "ids": ids }))
    });
    let plain = plain_texts(&texts);
    let plain_ids = plain.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({
        "texts": texts, "text_ids": ids, "chats": chats.collect::<anyhow::Result<Vec<_>>>()?,
        "plain_texts": plain, "plain_text_ids": plain_ids, "end_ids": tokenizer.stop_ids(),
    }))
}

/// Some of the texts with the text of a special token in the middle.
fn plain_texts(texts: &[String]) -> Vec<String> {
    let special = ["<|im_end|>", " <|im_start|>user\n", "<|endoftext|>", "\n<|endoftext|> "];
    let with = |(index, text): (usize, &String)| {
        let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(place, _)| place);
        [&text[..middle], special[index % special.len()], &text[middle..]].concat()
    };
    texts.iter().step_by(10).enumerate().map(with).collect()
}

/// One turn and many, with and without a system turn, empty ones, white space at the ends, other scripts, text that a template
/// could take for its own.
fn chats() -> Vec<Vec<Message>> {
    let user = |text: &str| Message::new(Role::User, text);
    let said = |text: &str| Message::new(Role::Assistant, text);
    let system = |text: &str| Message::new(Role::System, text);
    vec![
        vec![user("Where does Petra live?")],
        vec![system("Answer in a few words."), user("  Un café, s'il vous plaît?\n\n")],
        vec![user("Why?\n"), said("Because {{ it }} \"rains\".\n"), user("你好 👋🏽 {% if x %}")],
        vec![system("Be brief."), user("2 + 3?"), said("5"), user("Twice that?"), said("10"), user("And half?")],
        vec![system(" Réponds en français.\n"), user("\tVoilà. "), said(" Merci \u{a0}"), user("\u{3000}fin\u{3000}")],
        vec![system("Язык: любой 🌍"), user("مرحبا، كيف حالك؟"), said("बढ़िया 😀"), user("e\u{301} ≠ é, ﬁ ≠ fi")],
        vec![user(""), said(""), user("")],
        vec![system(""), user("")],
        vec![user("a\r\nb\rc\u{2028}d\u{85}e"), said("\u{200b}"), user("\n\n\n")],
        vec![user("one"), said("two"), user("three"), said("four"), user("five"), said("six"), user("seven")],
        vec![user("{# no comment #} {%- endif -%}"), said("'single' `back` \\n <b>&amp;"), user("None False 0")],
        vec![user("first"), user("second")],
        vec![said("I begin."), user("You do.")],
        vec![user("a"), system("late"), user("b"), said("c")],
    ]
}

/// Pieces in any order, and letters of any script; none has the text of a special token. The first ones are those of
/// any other `count`.
pub(crate) fn texts(count: usize) -> Vec<String> {
    let pieces: Vec<&str> = PIECES.split(' ').chain(BLANKS).collect();
    let mut numbers = Numbers::new(20_261);
    let mut text = |index: usize| -> String {
        let length = 1 + numbers.below(24);
        if index.is_multiple_of(2) {
            return (0..length).map(|_| pieces[numbers.below(pieces.len()) as usize]).collect();
        }
        let mut letter = || {
            let [first, end] = SCRIPTS[numbers.below(SCRIPTS.len()) as usize];
            char::from_u32(first + numbers.below((end - first) as usize))
        };
        (0..length).filter_map(|_| letter()).collect()
    };
    (0..count).map(&mut text).collect()
}

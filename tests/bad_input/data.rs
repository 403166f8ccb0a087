//! Texts and conversations.

use crate::support::files::hashes;
use crate::support::outcome::Outcome;
use crate::support::sandbox::Sandbox;

/// `pretrain` on the file at `data/<name>`.
fn train_on(sandbox: &Sandbox, name: &str, more: &[&str]) -> anyhow::Result<Outcome> {
    let path = format!("data.train.0.path=data/{name}");
    sandbox.stage("pretrain", &[&["--set", &path][..], more].concat())
}

/// Refused, and no run begun.
fn refused(sandbox: &Sandbox, name: &str, more: &[&str], fragments: &[&str]) -> anyhow::Result<()> {
    train_on(sandbox, name, more)?.refused(2, &[fragments, &["hint: "]].concat())?;
    assert_eq!(hashes(&sandbox.path("checkpoints"))?.len(), 0);
    Ok(())
}

const CHATS: [&str; 2] = ["--set", "data.train.0.kind=chats"];

#[test]
fn a_path_that_is_not_there_is_named() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    refused(&sandbox, "nowhere.parquet", &[], &["data path `data/nowhere.parquet` does not exist"])?;
    refused(&sandbox, "*.jsonl", &[], &["data path `data/*.jsonl` matches no file"])?;
    sandbox.write("data/texts.csv", "text\nhello\n")?;
    refused(
        &sandbox,
        "texts.csv",
        &[],
        &["`data/texts.csv` has extension `csv`, must be `.parquet`, `.jsonl` or `.txt`"],
    )?;
    let tokenizer = ["--set", "data.tokenizer=data/nowhere.json"];
    refused(&sandbox, "tiny/train.parquet", &tokenizer, &["`data/nowhere.json`"])
}

#[test]
fn a_file_that_is_not_parquet_is_named() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    sandbox.write("data/texts.parquet", "this is a text, whatever its name says")?;
    refused(&sandbox, "texts.parquet", &[], &["`data/texts.parquet` is not a readable parquet file: "])?;
    let whole = std::fs::read(sandbox.path("data/tiny/train.parquet"))?;
    sandbox.write("data/cut.parquet", &whole[..whole.len() / 2])?;
    refused(&sandbox, "cut.parquet", &[], &["`data/cut.parquet` is not a readable parquet file: "])
}

#[test]
fn a_parquet_file_with_a_damaged_page_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let mut bytes = std::fs::read(sandbox.path("data/tiny/train.parquet"))?;
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xff);
    sandbox.write("data/damaged.parquet", bytes)?;
    refused(&sandbox, "damaged.parquet", &[], &["`data/damaged.parquet` is not a readable parquet file: "])
}

#[test]
fn an_empty_file_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    for name in ["empty.parquet", "empty.jsonl", "empty.txt"] {
        sandbox.write(&format!("data/{name}"), "")?;
        refused(&sandbox, name, &[], &[&format!("data file `data/{name}` is empty (`0` rows)")])?;
    }
    Ok(())
}

#[test]
fn the_columns_that_are_there_are_listed_for_a_missing_one() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let column = ["--set", "data.train.0.column=body"];
    let parquet = "`data/tiny/train.parquet` has no column `body`, the columns are `id`, `text`, `nats`";
    refused(&sandbox, "tiny/train.parquet", &column, &[parquet, "set `column` to one of them"])?;
    sandbox.write("data/texts.jsonl", "{\"title\": \"a\", \"words\": \"b\"}\n")?;
    let jsonl = "`data/texts.jsonl` row `1` has no key `body`, the keys are `title`, `words`";
    refused(&sandbox, "texts.jsonl", &column, &[jsonl])
}

#[test]
fn null_and_empty_texts_are_skipped_and_counted() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let text = "{\"text\": \"a long enough story of a cat that sat on a mat in the sun\"}\n";
    let rows = [text.repeat(40), "{\"text\": null}\n".repeat(3), "{\"text\": \"\"}\n".repeat(2)].concat();
    sandbox.write("data/gaps.jsonl", rows)?;
    let outcome = train_on(&sandbox, "gaps.jsonl", &[])?;
    outcome.says(&[
        "warning: `data/gaps.jsonl`: 3 rows without a value",
        "warning: `data/gaps.jsonl`: 2 rows without text",
    ])?;
    outcome.complete()?;
    // Tokenised already, the second time: the counts are those of the first.
    let again = train_on(&sandbox, "gaps.jsonl", &["--out", "again"])?;
    again.says(&[
        "warning: `data/gaps.jsonl`: 3 rows without a value",
        "warning: `data/gaps.jsonl`: 2 rows without text",
    ])
}

#[test]
fn a_file_of_nothing_but_null_and_empty_texts_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    sandbox.write("data/void.jsonl", "{\"text\": null}\n{\"text\": \"\"}\n{\"text\": null}\n")?;
    refused(&sandbox, "void.jsonl", &[], &["`data/void.jsonl` has no text: `2` null and `1` empty rows were skipped"])
}

#[test]
fn invalid_utf8_is_named_with_its_row() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    sandbox.write("data/latin.jsonl", b"{\"text\": \"one\"}\n\n{\"text\": \"caf\xe9\"}\n")?;
    refused(&sandbox, "latin.jsonl", &[], &["`data/latin.jsonl` row `3` is not valid UTF-8 at byte `13`"])
}

#[test]
fn a_line_that_is_not_json_is_named_with_its_row() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    sandbox.write("data/broken.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"\n")?;
    refused(&sandbox, "broken.jsonl", &[], &["`data/broken.jsonl` row `2` is not a JSON object"])?;
    sandbox.write("data/number.jsonl", "{\"text\": \"one\"}\n{\"text\": 7}\n")?;
    refused(&sandbox, "number.jsonl", &[], &["`data/number.jsonl` row `2`: `text` is `7`, must be a string"])
}

#[test]
fn a_chat_with_an_unknown_role_is_named_with_its_row() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let good = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    let bad = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "robot", "content": "b"}]}"#;
    sandbox.write("data/roles.jsonl", format!("{good}\n{bad}\n"))?;
    refused(&sandbox, "roles.jsonl", &CHATS, &["`data/roles.jsonl` row `2` has role `robot`, must be `system`, `user`"])
}

#[test]
fn a_chat_without_an_assistant_turn_is_named_with_its_row() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let bad = r#"{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}"#;
    sandbox.write("data/silent.jsonl", format!("{bad}\n"))?;
    let message = "`data/silent.jsonl` row `1` has no turn of role `assistant` in `2` turns";
    refused(&sandbox, "silent.jsonl", &CHATS, &[message])
}

#[test]
fn chats_and_documents_are_not_taken_for_each_other() -> anyhow::Result<()> {
    let sandbox = Sandbox::prepared()?;
    let documents = "`data/tiny/train.parquet` has no column `messages`, the columns are `id`, `text`, `nats`";
    refused(&sandbox, "tiny/train.parquet", &CHATS, &[documents])?;
    let chats = "`data/tiny/chats-train.parquet` has no column `text`, the columns are `messages`, `answer`, `nats`";
    refused(&sandbox, "tiny/chats-train.parquet", &[], &[chats])?;
    sandbox.write("data/story.txt", "Once upon a time.")?;
    refused(&sandbox, "story.txt", &CHATS, &["`data/story.txt` holds text", "set kind to `documents`"])
}

#[test]
fn evaluate_says_what_is_wrong_with_its_data() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain"])?;
    let evaluate = |more: &[&str]| {
        sandbox.run("evaluate", &[&["--from", "checkpoints/trial/teacher", "--data"][..], more].concat())
    };
    evaluate(&["data/nowhere.parquet"])?.refused(2, &["data path `data/nowhere.parquet` does not exist", "hint: "])?;
    evaluate(&["data/tiny/valid.parquet", "--column", "body"])?.refused(2, &["has no column `body`", "hint: "])?;
    let short = ["data/tiny/valid.parquet", "--sequence-length", "1"];
    evaluate(&short)?.refused(2, &["--sequence-length is `1`, must be at least `2`", "hint: "])?;
    let long = ["data/tiny/valid.parquet", "--sequence-length", "49"];
    evaluate(&long)?.refused(2, &["--sequence-length is `49`, must be at most the model's `48`", "hint: "])?;
    sandbox.write("data/gaps.jsonl", "{\"text\": \"a cat sat on a mat\"}\n{\"text\": null}\n")?;
    evaluate(&["data/gaps.jsonl"])?.says(&["warning: `data/gaps.jsonl`: 1 rows without a value"])
}

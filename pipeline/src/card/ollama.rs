//! The `Modelfile` that Ollama makes a model from.

use std::fmt::Write as _;

use limbeck_data::{Message, Role, Tokenizer};

use super::{Card, Row};
use crate::source::Source;

/// ChatML in Go's template language, as Ollama's `docs/template.md` has it.
const CHATML: &str =
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n";

/// The file of `row`, with the chat template where it is one that Ollama's language is known for; else Ollama takes what it
/// makes of the template in the file.
///
/// # Errors
/// If the tokenizer's chat template fails on a plain conversation for another reason than its form.
pub(super) fn modelfile(row: &Row, card: &Card, source: &Source) -> anyhow::Result<String> {
    let mut text = format!("FROM ./{}\n", row.file.path.display());
    if is_chatml(&source.tokenizer) {
        let _ = writeln!(text, "TEMPLATE \"\"\"{CHATML}\"\"\"");
    }
    for id in source.tokenizer.stop_ids() {
        if let Some(token) = source.tokenizer.token(id) {
            let _ = writeln!(text, "PARAMETER stop \"{}\"", token.replace('"', "\\\""));
        }
    }
    let _ = writeln!(text, "PARAMETER num_ctx {}", card.context.min(card.shape.max_position_embeddings));
    Ok(text)
}

/// Whether conversations are rendered as ChatML: with a system turn and without, several turns, white space at the ends.
fn is_chatml(tokenizer: &Tokenizer) -> bool {
    let turn = |role, content: &str| Message::new(role, content.to_owned());
    let long = [
        turn(Role::System, "Be brief."),
        turn(Role::User, " Hello\n"),
        turn(Role::Assistant, "Yes?"),
        turn(Role::User, "Go on."),
    ];
    [&long[..], &long[1..], &long[1..2]].into_iter().all(|messages| {
        let turns = messages
            .iter()
            .map(|message| format!("<|im_start|>{}\n{}<|im_end|>\n", message.role.name(), message.content));
        let expected = turns.collect::<String>() + "<|im_start|>assistant\n";
        tokenizer.render_chat(messages, true).is_ok_and(|text| text == expected)
    })
}

//! Conversations to text and tokens, by the Jinja template of the model directory.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;

use crate::error::DataError;
use crate::message::{Message, Role};
use crate::tokenizer::{Guard, Tokenizer};

/// ChatML: `<|im_start|>role`, newline, content, `<|im_end|>`, newline.
///
/// A conversation's rendering begins with that of its first turns, and a turn's end is within the turn.
pub(crate) const CHATML: &str = "\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
";

const NAME: &str = "chat_template";

/// A template that has compiled, with the settings and functions that transformers renders it with.
pub(crate) struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    begin: Option<String>,
    end: Option<String>,
}

impl ChatTemplate {
    /// `begin` and `end` are what the template sees as `bos_token` and `eos_token`.
    pub(crate) fn new(source: String, begin: Option<String>, end: Option<String>) -> Result<ChatTemplate, DataError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.clone()).map_err(template_error)?;
        Ok(ChatTemplate { source, environment, begin, end })
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, DataError> {
        let template = self.environment.get_template(NAME).map_err(template_error)?;
        let messages: Value = messages
            .iter()
            .map(|message| context! { role => message.role.name(), content => message.content.as_str() })
            .collect();
        template
            .render(context! {
                messages, add_generation_prompt, bos_token => self.begin.as_deref(), eos_token => self.end.as_deref(),
                tools => (), documents => (),
            })
            .map_err(template_error)
    }
}

fn template_error(error: Error) -> DataError {
    DataError::Template { reason: error.to_string() }
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Always 1 January 2026, a Thursday: today's date would make tokens depend on the day on which they were cached.
fn strftime_now(format: String) -> String {
    let names = [
        ("%d", "01"),
        ("%-d", "1"),
        ("%m", "01"),
        ("%-m", "1"),
        ("%y", "26"),
        ("%Y", "2026"),
        ("%b", "Jan"),
        ("%B", "January"),
        ("%a", "Thu"),
        ("%A", "Thursday"),
        ("%j", "001"),
        ("%H", "00"),
        ("%M", "00"),
        ("%S", "00"),
    ];
    names.iter().fold(format, |text, (name, value)| text.replace(name, value))
}

/// `json.dumps` without escapes for HTML, as transformers has it.
fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let failed = |error: serde_json::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let indent: Option<usize> = options.get("indent")?;
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let spaces = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(failed)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)).map_err(failed)?,
    }
    Ok(Value::from_safe_string(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Python's separators: `", "` and `": "`.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

impl Tokenizer {
    /// The text of a conversation; with `add_generation_prompt`, up to where the assistant would begin to speak.
    ///
    /// # Errors
    /// No template, or one that fails on these messages.
    pub fn render_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, DataError> {
        self.template()?.render(messages, add_generation_prompt)
    }

    /// The ids that a model answers to: the conversation up to where the assistant begins to speak. Special tokens in
    /// what people wrote are plain text.
    ///
    /// # Errors
    /// As [`Tokenizer::render_chat`].
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, DataError> {
        let guard = self.guard(messages)?;
        let text = self.template()?.render(&hidden(messages, &guard), true)?;
        self.encode_rendered(&text, &guard)
    }

    /// The ids of a conversation, and for each whether it is the assistant's: a token of its text or the end of its
    /// turn.
    ///
    /// The assistant's part is what the rendering of the turns up to it has beyond the prompt before it. It is encoded
    /// on its own, as generation makes it: no token reaches over its beginning, even where it begins with a newline.
    /// Special tokens in what people wrote are plain text.
    ///
    /// # Errors
    /// As [`Tokenizer::render_chat`]; a template that renders earlier turns differently when later ones follow, or that
    /// ends a turn without [`Tokenizer::end_of_turn`].
    pub fn encode_chat(&self, messages: &[Message]) -> Result<(Vec<u32>, Vec<bool>), DataError> {
        let (template, guard) = (self.template()?, self.guard(messages)?);
        let messages = hidden(messages, &guard);
        let whole = template.render(&messages, false)?;
        let (mut ids, mut spoken, mut end) = (Vec::new(), Vec::new(), 0);
        for turn in (0..messages.len()).filter(|turn| messages[*turn].role == Role::Assistant) {
            let prompt = template.render(&messages[..turn], true)?;
            let turns = template.render(&messages[..=turn], false)?;
            if !whole.starts_with(&turns) || !turns.starts_with(&prompt) || prompt.len() < end {
                return Err(DataError::TemplateNotPrefix { turn: turn + 1 });
            }
            ids.extend(self.encode_rendered(&whole[end..prompt.len()], &guard)?);
            spoken.resize(ids.len(), false);
            let part = self.encode_rendered(&whole[prompt.len()..turns.len()], &guard)?;
            let last = self.last_end_of_turn(&part, turn)?;
            spoken.extend((0..part.len()).map(|token| token <= last));
            ids.extend(part);
            end = turns.len();
        }
        ids.extend(self.encode_rendered(&whole[end..], &guard)?);
        spoken.resize(ids.len(), false);
        Ok((ids, spoken))
    }

    /// Where the turn ends in the assistant's part. What follows may be white space; text would mean that the token
    /// found there closes the turn before.
    fn last_end_of_turn(&self, part: &[u32], turn: usize) -> Result<usize, DataError> {
        if let Some(last) = part.iter().rposition(|id| *id == self.end_of_turn())
            && self.decode(&part[last + 1..])?.trim().is_empty()
        {
            return Ok(last);
        }
        Err(DataError::NoEndOfTurn { turn: turn + 1, token: self.token(self.end_of_turn()).unwrap_or_default() })
    }

    fn guard(&self, messages: &[Message]) -> Result<Guard<'_>, DataError> {
        let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
        self.special().guard(&contents)
    }
}

fn hidden(messages: &[Message], guard: &Guard<'_>) -> Vec<Message> {
    messages.iter().map(|message| Message::new(message.role, guard.hide(&message.content))).collect()
}

#[cfg(test)]
mod tests;

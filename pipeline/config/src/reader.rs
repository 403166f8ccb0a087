//! Deserialises a [`toml::Value`] with errors that a program can read: `toml`'s own are text.

use std::fmt::Display;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use toml::Value;

/// Why a value does not fit its type, and how deep in the document.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Keys and indices from the root to the value, or to the nearest section with a `kind`: serde buffers those.
    pub(crate) depth: usize,
    pub(crate) reason: Reason,
}

/// What serde found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error("not one of the keys {0:?}")]
    UnknownField(&'static [&'static str]),
    #[error("not one of the words {0:?}")]
    UnknownVariant(&'static [&'static str]),
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("{found} where {expected} is expected")]
    Invalid { found: String, expected: String },
    #[error("{0}")]
    Custom(String),
}

impl Error for Reason {
    fn custom<T: Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Invalid { found: found.to_string(), expected: expected.to_string() }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownVariant(expected)
    }

    fn unknown_field(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownField(expected)
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }
}

/// Reads `document` as a `C`.
pub(crate) fn read<C: DeserializeOwned>(document: &Value) -> Result<C, Refusal> {
    serde_path_to_error::deserialize(Reader(document))
        .map_err(|error| Refusal { depth: error.path().iter().count(), reason: error.into_inner() })
}

/// Tells whether a document is a `C`.
pub(crate) type Probe = fn(&Value) -> Result<(), Refusal>;

/// The [`Probe`] of `C`.
pub(crate) fn probe<C: DeserializeOwned>(document: &Value) -> Result<(), Refusal> {
    read::<C>(document).map(drop)
}

struct Reader<'a>(&'a Value);

impl<'de> IntoDeserializer<'de, Reason> for Reader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Reason;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        match self.0 {
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(truth) => visitor.visit_bool(*truth),
            Value::Datetime(_) => Err(Reason::invalid_type(Unexpected::Other("date"), &visitor)),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(Reader))),
            Value::Table(table) => {
                visitor.visit_map(MapDeserializer::new(table.iter().map(|(key, value)| (key.as_str(), Reader(value)))))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            // The message's list of words comes from the schema.
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Reason> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

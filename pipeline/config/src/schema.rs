//! Which keys a config has, found by asking its deserialiser: a list beside the structs would drift from them.
//!
//! A document that holds one section with a key `?` is refused with the names that the section knows; one that lacks a
//! key tells whether it is required; one with a number, a text or a list tells what a key takes.

use toml::{Table, Value};

use crate::reader::{Probe, Reason, Refusal};

/// The key that chooses the variant of a section.
pub(crate) const TAG: &str = "kind";

/// What no section and no list of words knows.
const UNKNOWN: &str = "?";

/// What stands at a place.
pub(crate) enum Shape {
    /// One value, or a list that is read as one.
    Leaf(Leaf),
    /// A list of sections, or of values.
    List(Box<Shape>),
    /// A section.
    Section(Vec<Field>),
    /// A section whose other keys depend on [`TAG`].
    Tagged(Vec<(&'static str, Vec<Field>)>),
}

/// A value.
pub(crate) struct Leaf {
    place: Place,
    /// A value that fits, to go on with when the given one does not.
    placeholder: Value,
    /// The words that it may be; empty when it is no choice of words.
    pub(crate) words: &'static [&'static str],
}

/// A key of a section.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) shape: Shape,
}

impl Shape {
    /// The keys of a whole config.
    pub(crate) fn of(probe: Probe) -> Self {
        discover(probe, &Place::default())
    }

    /// A value that fits.
    pub(crate) fn placeholder(&self) -> Value {
        match self {
            Self::Leaf(leaf) => leaf.placeholder.clone(),
            Self::List(_) => Value::Array(Vec::new()),
            Self::Section(fields) => Value::Table(placeholders(fields)),
            Self::Tagged(variants) => {
                let mut table = Table::new();
                if let Some((kind, fields)) = variants.first() {
                    table = placeholders(fields);
                    table.insert(TAG.into(), Value::String((*kind).into()));
                }
                Value::Table(table)
            }
        }
    }
}

impl Leaf {
    /// Why `value` does not fit, asking about nothing else.
    pub(crate) fn refusal(&self, probe: Probe, value: &Value) -> Option<Reason> {
        match probe(&self.place.document(value.clone())).err()?.reason {
            // The document has nothing but the value.
            Reason::Missing(_) => None,
            reason => Some(reason),
        }
    }
}

fn placeholders(fields: &[Field]) -> Table {
    fields.iter().filter(|field| field.required).map(|field| (field.name.into(), field.shape.placeholder())).collect()
}

/// The way from the root of the document.
#[derive(Clone, Default)]
struct Place(Vec<Step>);

#[derive(Clone)]
enum Step {
    Key(&'static str),
    Item,
    Variant(&'static str),
}

impl Place {
    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// A document with `value` at this place and nothing else.
    fn document(&self, value: Value) -> Value {
        self.0.iter().rev().fold(value, |value, step| match step {
            Step::Key(name) => Value::Table(Table::from_iter([((*name).into(), value)])),
            Step::Item => Value::Array(vec![value]),
            Step::Variant(kind) => match value {
                Value::Table(mut table) => {
                    table.insert(TAG.into(), Value::String((*kind).into()));
                    Value::Table(table)
                }
                other => other,
            },
        })
    }

    /// As [`Refusal::depth`] counts.
    fn depth(&self) -> usize {
        self.0.iter().filter(|step| !matches!(step, Step::Variant(_))).count()
    }
}

fn discover(probe: Probe, place: &Place) -> Shape {
    match ask_for_names(probe, place, UNKNOWN) {
        Some(Reason::UnknownField(names)) => Shape::Section(fields(probe, place, names)),
        // The message of a section without its tag.
        Some(Reason::Missing(TAG)) => Shape::Tagged(variants(probe, place)),
        _ => list(probe, place).unwrap_or_else(|| leaf(probe, place)),
    }
}

/// What is said about a section that holds nothing but `key`.
fn ask_for_names(probe: Probe, place: &Place, key: &str) -> Option<Reason> {
    let section = Table::from_iter([(key.into(), Value::String(UNKNOWN.into()))]);
    probe(&place.document(Value::Table(section))).err().map(|refusal| refusal.reason)
}

fn variants(probe: Probe, place: &Place) -> Vec<(&'static str, Vec<Field>)> {
    let Some(Reason::UnknownVariant(kinds)) = ask_for_names(probe, place, TAG) else {
        return Vec::new();
    };
    let variant = |&kind: &&'static str| {
        let place = place.then(Step::Variant(kind));
        match ask_for_names(probe, &place, UNKNOWN) {
            Some(Reason::UnknownField(names)) => (kind, fields(probe, &place, names)),
            _ => (kind, Vec::new()),
        }
    };
    kinds.iter().map(variant).collect()
}

fn fields(probe: Probe, place: &Place, names: &[&'static str]) -> Vec<Field> {
    let field =
        |&name: &&'static str| Field { name, required: false, shape: discover(probe, &place.then(Step::Key(name))) };
    let mut fields: Vec<Field> = names.iter().map(field).collect();
    let mut section = Table::new();
    // A section around this one may lack a key too, but less deep.
    while let Err(Refusal { depth, reason: Reason::Missing(name) }) =
        probe(&place.document(Value::Table(section.clone())))
        && depth == place.depth()
        && let Some(field) = fields.iter_mut().find(|field| field.name == name && !field.required)
    {
        field.required = true;
        section.insert(name.into(), field.shape.placeholder());
    }
    fields
}

fn list(probe: Probe, place: &Place) -> Option<Shape> {
    let empty = probe(&place.document(Value::Array(Vec::new()))).err();
    if empty.is_some_and(|refusal| !matches!(refusal.reason, Reason::Missing(_))) {
        return None;
    }
    Some(Shape::List(Box::new(discover(probe, &place.then(Step::Item)))))
}

fn leaf(probe: Probe, place: &Place) -> Shape {
    let mut leaf = Leaf { place: place.clone(), placeholder: Value::Integer(1), words: &[] };
    for candidate in [Value::Integer(1), Value::String(UNKNOWN.into()), Value::Boolean(true)] {
        match leaf.refusal(probe, &candidate) {
            None => {
                leaf.placeholder = candidate;
                break;
            }
            Some(Reason::UnknownVariant(words)) => {
                leaf.words = words;
                leaf.placeholder = Value::String(words.first().copied().unwrap_or_default().into());
                break;
            }
            Some(_) => {}
        }
    }
    Shape::Leaf(leaf)
}

//! Compares a document with the keys that its config has: what is unknown, missing or of the wrong type.
//!
//! The document is mended on the way (unknown keys out, placeholders in), so that everything is reported at once and
//! the rest of the rules can be checked too. Keys that were mended are remembered, since what depends on them is noise.

use toml::{Table, Value};

use crate::document::Document;
use crate::problem::{Problem, is_within};
use crate::reader::{Probe, Reason};
use crate::schema::{Field, Leaf, Shape, TAG};
use crate::suggest::{all_names, header, homes, nearest, one_of};

/// What [`conform`] found.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    /// Keys whose values are made up.
    broken: Vec<String>,
}

impl Findings {
    /// Whether nothing that `problem` looks at is made up.
    pub(crate) fn leaves_sense_in(&self, problem: &Problem) -> bool {
        !self.broken.iter().any(|broken| problem.depends_on(broken))
    }
}

/// Mends `document` until it fits `shape`.
pub(crate) fn conform(document: &mut Document, shape: &Shape, probe: Probe) -> Findings {
    let mut table = Value::Table(std::mem::take(&mut document.table));
    let mut walk = Walk { root: shape, probe, document, findings: Findings::default() };
    walk.visit(&mut table, shape, "", false);
    let findings = walk.findings;
    if let Value::Table(table) = table {
        document.table = table;
    }
    findings
}

struct Walk<'a> {
    root: &'a Shape,
    probe: Probe,
    document: &'a mut Document,
    findings: Findings,
}

impl Walk<'_> {
    /// `in_list`: whether `key` ends in an index.
    fn visit(&mut self, value: &mut Value, shape: &Shape, key: &str, in_list: bool) {
        match (shape, &mut *value) {
            (Shape::Leaf(leaf), given) => match leaf.refusal(self.probe, given) {
                None => {}
                Some(reason) => {
                    let problem = wrong_value(key, given, leaf, reason);
                    self.replace(value, shape, problem);
                }
            },
            (Shape::List(item), Value::Array(items)) => {
                for (index, value) in items.iter_mut().enumerate() {
                    self.visit(value, item, &format!("{key}.{index}"), true);
                }
            }
            (Shape::Section(fields), Value::Table(table)) => {
                self.section(table, fields, key, in_list);
            }
            (Shape::Tagged(variants), Value::Table(table)) => {
                if let Err(problem) = self.tagged(table, variants, key, in_list) {
                    self.findings.broken.push(key.into());
                    self.findings.problems.extend(problem);
                    *value = shape.placeholder();
                }
            }
            (Shape::List(item), given) => {
                let hint = match **item {
                    Shape::Leaf(_) => format!("write {} = [...]", last(key)),
                    _ => format!("write [[{key}]]"),
                };
                let problem = Problem::new(key, shown(given), "must be a list").hint(hint);
                self.replace(value, shape, problem);
            }
            (Shape::Section(_) | Shape::Tagged(_), given) => {
                let hint = format!("write {}", self.header(key, in_list));
                let problem = Problem::new(key, shown(given), "must be a section of keys").hint(hint);
                self.replace(value, shape, problem);
            }
        }
    }

    fn replace(&mut self, value: &mut Value, shape: &Shape, problem: Problem) {
        self.findings.broken.push(problem.key().into());
        self.findings.problems.push(problem);
        *value = shape.placeholder();
    }

    /// A section that has the keys `fields`.
    fn section(&mut self, table: &mut Table, fields: &[Field], key: &str, in_list: bool) {
        let names: Vec<_> = fields.iter().map(|field| field.name).collect();
        self.unknown_keys(table, &names, key, in_list);
        self.fields(table, fields, key);
    }

    /// A section whose keys [`TAG`] chooses. Without a valid one, they are not known: then the section has to be
    /// replaced, and the problem is returned unless the misspelling of the tag is reported already.
    fn tagged(
        &mut self,
        table: &mut Table,
        variants: &[(&'static str, Vec<Field>)],
        key: &str,
        in_list: bool,
    ) -> Result<(), Option<Problem>> {
        if chosen(table, variants).is_none() {
            let names = variants.iter().flat_map(|(_, fields)| fields).map(|field| field.name).chain([TAG]);
            self.unknown_keys(table, &names.collect::<Vec<_>>(), key, in_list);
        }
        if let Some(fields) = chosen(table, variants) {
            let names: Vec<_> = fields.iter().map(|field| field.name).chain([TAG]).collect();
            self.unknown_keys(table, &names, key, in_list);
            self.fields(table, fields, key);
            return Ok(());
        }
        let tag = join(key, TAG);
        let kinds: Vec<_> = variants.iter().map(|(kind, _)| *kind).collect();
        let rule = format!("must be one of {}", listed(&kinds));
        Err(match table.get(TAG) {
            Some(given) => Some(with_nearest(Problem::new(tag, shown(given), rule), given, &kinds)),
            None if self.is_broken(&tag) => None,
            None => Some(Problem::missing(tag, rule).hint(format!("add {TAG} = \"{}\"", kinds.join("\" or \"")))),
        })
    }

    /// Adds what is missing and visits what is there.
    fn fields(&mut self, table: &mut Table, fields: &[Field], key: &str) {
        for field in fields {
            let key = join(key, field.name);
            match table.get_mut(field.name) {
                Some(value) => self.visit(value, &field.shape, &key, false),
                None if field.required => {
                    if !self.is_broken(&key) {
                        self.findings.problems.push(missing(&key, field));
                        self.findings.broken.push(key);
                    }
                    table.insert(field.name.into(), field.shape.placeholder());
                }
                None => {}
            }
        }
    }

    /// Reports the keys that are not in `names`, and moves them to the one that was meant, or out.
    fn unknown_keys(&mut self, table: &mut Table, names: &[&'static str], key: &str, in_list: bool) {
        let unknown: Vec<String> = table.keys().filter(|name| !names.contains(&name.as_str())).cloned().collect();
        for name in unknown {
            let near = nearest(&name, names.iter().copied());
            let place = match key {
                "" => "at the top of the file".into(),
                key => format!("of {}", self.header(key, in_list)),
            };
            let problem = Problem::worded(join(key, &name), format!("is not a key {place}"));
            self.findings.problems.push(problem.hint(self.way_out(&name, &near, names)));
            let value = table.remove(&name);
            match (near.as_slice(), value) {
                (&[meant], Some(value)) if !table.contains_key(meant) => {
                    self.document.rename(&join(key, &name), &join(key, meant));
                    table.insert(meant.into(), value);
                }
                _ => self.findings.broken.extend(near.iter().map(|meant| join(key, meant))),
            }
        }
    }

    fn way_out(&self, name: &str, near: &[&str], names: &[&str]) -> String {
        let one_edit = near.iter().any(|meant| strsim::damerau_levenshtein(name, meant) <= 1);
        let homes = homes(self.root, name).join(" or ");
        if !homes.is_empty() && !one_edit {
            return format!("`{name}` belongs in {homes}");
        }
        if !near.is_empty() {
            return format!("did you mean {}", one_of(near));
        }
        let elsewhere = nearest(name, all_names(self.root));
        match elsewhere.first() {
            Some(meant) => format!("did you mean `{meant}` of {}", self::homes(self.root, meant).join(" or ")),
            None => format!("there are {}", listed(names)),
        }
    }

    fn header(&self, key: &str, in_list: bool) -> String {
        match (in_list, key.rsplit_once('.')) {
            (true, Some((list, _))) => header(list, true),
            _ => header(key, false),
        }
    }

    fn is_broken(&self, key: &str) -> bool {
        self.findings.broken.iter().any(|broken| is_within(key, broken))
    }
}

/// The keys of the variant that [`TAG`] names.
fn chosen<'a>(table: &Table, variants: &'a [(&'static str, Vec<Field>)]) -> Option<&'a [Field]> {
    let kind = table.get(TAG)?.as_str()?;
    variants.iter().find(|(name, _)| *name == kind).map(|(_, fields)| fields.as_slice())
}

fn missing(key: &str, field: &Field) -> Problem {
    let name = field.name;
    match &field.shape {
        Shape::Section(_) | Shape::Tagged(_) => {
            Problem::missing(key, "must be given").hint(format!("add the section [{key}]"))
        }
        Shape::List(item) if !matches!(**item, Shape::Leaf(_)) => {
            Problem::missing(key, "must have at least one entry").hint(format!("add [[{key}]]"))
        }
        Shape::List(_) => Problem::missing(key, "must be given").hint(format!("add {name} = [...]")),
        Shape::Leaf(leaf) if leaf.words.is_empty() => {
            Problem::missing(key, "must be given").hint(format!("add a line {name} = ..., or --set {key}=..."))
        }
        Shape::Leaf(leaf) => Problem::missing(key, format!("must be one of {}", listed(leaf.words)))
            .hint(format!("add a line {name} = ..., or --set {key}=...")),
    }
}

fn wrong_value(key: &str, given: &Value, leaf: &Leaf, reason: Reason) -> Problem {
    if !leaf.words.is_empty() {
        let rule = format!("must be one of {}", listed(leaf.words));
        return with_nearest(Problem::new(key, shown(given), rule), given, leaf.words);
    }
    let (rule, hint) = match reason {
        Reason::Invalid { expected, .. } => expectation(&expected, key, given),
        other => (other.to_string(), "see the comments of configs/tiny".into()),
    };
    Problem::new(key, shown(given), rule).hint(hint)
}

/// serde's name of a type, in words.
fn expectation(expected: &str, key: &str, given: &Value) -> (String, String) {
    let name = last(key);
    let quoted = matches!(given, Value::String(text) if text.parse::<f64>().is_ok());
    match expected {
        "usize" | "u64" | "u32" if quoted => {
            ("must be a whole number, 0 or more".into(), "leave the quotes out".into())
        }
        "usize" | "u64" | "u32" => ("must be a whole number, 0 or more".into(), format!("write {name} = 10")),
        "f64" | "f32" if quoted => ("must be a number".into(), "leave the quotes out".into()),
        "f64" | "f32" => ("must be a number".into(), format!("write {name} = 0.1")),
        "a boolean" => ("must be `true` or `false`".into(), format!("write {name} = true")),
        "a string" | "path string" => {
            let text = format!("{name} = \"{given}\"");
            let hint = match given {
                Value::Array(_) | Value::Table(_) => format!("write {name} = \"...\""),
                _ => format!("put it in quotes, {text}, or --set '{key}=\"{given}\"'"),
            };
            ("must be a text".into(), hint)
        }
        other => (format!("must be {other}"), "see the comments of configs/tiny".into()),
    }
}

fn with_nearest(problem: Problem, given: &Value, words: &[&str]) -> Problem {
    let near = nearest(given.as_str().unwrap_or_default(), words.iter().copied());
    problem.hint(match (near.as_slice(), words) {
        ([], words) => format!("use {}", one_of(words)),
        (near, _) => format!("did you mean {}", one_of(near)),
    })
}

/// A value as it is written, cut where it gets long.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.into() } else { format!("{section}.{name}") }
}

fn last(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, name)| name)
}

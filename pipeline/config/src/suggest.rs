//! The names that somebody may have meant.

use crate::schema::{Field, Shape, TAG};

/// The names nearest to `word`, all of them when several are equally near, none when nothing is near.
///
/// Near is one edit, or one in three letters: insertion, deletion, substitution, or the swap of two neighbours
/// (Damerau-Levenshtein).
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    let distances = names.into_iter().map(|name| (strsim::damerau_levenshtein(word, name), name));
    let near: Vec<_> = distances.filter(|&(distance, _)| distance <= allowed).collect();
    let least = near.iter().map(|&(distance, _)| distance).min();
    near.into_iter().filter(|&(distance, _)| Some(distance) == least).map(|(_, name)| name).collect()
}

/// Joins names in backticks.
pub(crate) fn one_of(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// The sections of the whole config that have a key `name`, as their headers are written.
pub(crate) fn homes(root: &Shape, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    visit(root, String::new(), &mut |header, fields| {
        if fields.iter().any(|field| field.name == name) && !found.contains(header) {
            found.push(header.clone());
        }
    });
    found
}

/// Every key of the config once.
pub(crate) fn all_names(root: &Shape) -> Vec<&'static str> {
    let mut names = vec![TAG];
    visit(root, String::new(), &mut |_, fields| names.extend(fields.iter().map(|field| field.name)));
    names.sort_unstable();
    names.dedup();
    names
}

/// How the header of a section is written; `list` for one of a list.
pub(crate) fn header(key: &str, list: bool) -> String {
    match (key, list) {
        ("", _) => "the top of the file".into(),
        (key, false) => format!("[{key}]"),
        (key, true) => format!("[[{key}]]"),
    }
}

/// Calls `see` with the header and the keys of every section; `key` is that of `shape`.
fn visit(shape: &Shape, key: String, see: &mut impl FnMut(&String, &[Field])) {
    let (shape, list) = match shape {
        Shape::List(item) => (item.as_ref(), true),
        other => (other, false),
    };
    let header = header(&key, list);
    let mut section = |header: &String, fields: &[Field]| {
        see(header, fields);
        for field in fields {
            let key = if key.is_empty() { field.name.into() } else { format!("{key}.{}", field.name) };
            visit(&field.shape, key, see);
        }
    };
    match shape {
        Shape::Section(fields) => section(&header, fields),
        Shape::Tagged(variants) => {
            for (kind, fields) in variants {
                section(&format!("{header} with {TAG} = `{kind}`"), fields);
            }
        }
        Shape::Leaf(_) | Shape::List(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_are_one_edit_away_or_one_in_three_letters() {
        let names = ["beta_1", "beta_2", "epsilon", "learning_rate"];
        assert_eq!(nearest("lerning_rate", names), ["learning_rate"]);
        assert_eq!(nearest("beta_", names), ["beta_1", "beta_2"]);
        assert_eq!(nearest("bate_1", names), ["beta_1"]); // two substitutions, within a third of six letters
        assert_eq!(nearest("espilon", names), ["epsilon"]);
        assert_eq!(nearest("eps", names), [""; 0]);
        assert_eq!(nearest("", names), [""; 0]);
    }
}

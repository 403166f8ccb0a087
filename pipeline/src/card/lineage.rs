//! What a model was made from, as far as it is on disk.

use std::path::Path;

use limbeck_checkpoint::{MANIFEST_FILE, Manifest, Parent};

/// A model of the lineage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ancestor {
    /// What it is to another one, by its number.
    pub(super) role: String,
    /// Where it was, and the hash that the child noted.
    pub(super) model: Parent,
    /// What it says of itself; `None` where it is not on disk as it was, or was not made here.
    pub(super) manifest: Option<Manifest>,
}

/// `model`, its teacher, what it started from, and theirs. A model is in it once. Manifests are compared with the hashes that
/// their children noted; weights are not read.
pub(super) fn lineage(model: &Parent) -> Vec<Ancestor> {
    let mut found: Vec<Ancestor> = Vec::new();
    let mut open = vec![("this model".to_owned(), model.clone())];
    // A hash is made before it is noted, so there is no circle.
    while let Some((role, model)) = open.pop() {
        if found.iter().any(|ancestor| ancestor.model.hash == model.hash) {
            continue;
        }
        let number = found.len() + 1;
        let manifest = manifest(&model);
        if let Some(manifest) = &manifest {
            let parents = [("start", &manifest.parent), ("teacher", &manifest.teacher)];
            for (what, parent) in parents {
                open.extend(parent.iter().map(|parent| (format!("{what} of {number}"), parent.clone())));
            }
        }
        found.push(Ancestor { role, model, manifest });
    }
    found
}

/// Of a model that is as it was when its hash was noted.
fn manifest(model: &Parent) -> Option<Manifest> {
    let path = Path::new(&model.path);
    // Without a manifest the weights would be hashed, for nothing.
    let is_same = path.join(MANIFEST_FILE).is_file() && Parent::of(path).ok()?.hash == model.hash;
    is_same.then(|| Manifest::read(path).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use limbeck_checkpoint::{ManifestHeader, RunDirectory};

    fn save(run: &Path, parent: Option<&Path>, teacher: Option<&Path>) -> std::path::PathBuf {
        let of = |path: Option<&Path>| path.map(|path| Parent::of(path).expect("saved before"));
        let header = ManifestHeader {
            stage: "sft".into(),
            step: 3,
            parent: of(parent),
            teacher: of(teacher),
            ..Default::default()
        };
        let run = RunDirectory::create(run).expect("a new directory");
        run.save(header, |step| std::fs::write(step.join("model.safetensors"), run.path().display().to_string()))
            .expect("a temporary directory");
        run.path().join("step-00000003")
    }

    #[test]
    fn parents_and_teachers_are_followed_until_one_is_not_as_it_was() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let first = save(&at("pretrain"), None, None);
        let teacher = save(&at("sft"), Some(&first), None);
        let student = save(&at("student"), None, Some(&teacher));
        let roles = |student: &Path| -> Vec<(String, bool)> {
            let ancestors = lineage(&Parent::of(student).expect("saved before"));
            ancestors.into_iter().map(|ancestor| (ancestor.role, ancestor.manifest.is_some())).collect()
        };
        let role = |role: &str, known| (role.to_owned(), known);
        let whole = [role("this model", true), role("teacher of 1", true), role("start of 2", true)];
        assert_eq!(roles(&student), whole);

        // Trained again with another result: it is not what the teacher started from.
        std::fs::remove_dir_all(at("pretrain")).expect("ours");
        save(&at("pretrain"), None, Some(&student));
        assert_eq!(roles(&student)[2], role("start of 2", false));
        std::fs::remove_dir_all(at("sft")).expect("ours");
        assert_eq!(roles(&student), [role("this model", true), role("teacher of 1", false)]);
    }
}

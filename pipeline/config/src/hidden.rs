//! `[distill.hidden]`: the student's hidden states beside the teacher's.

use serde::{Deserialize, Serialize};

use crate::capture::TeacherSection;
use crate::problem::Problem;
use crate::rules;

/// How far a projected hidden state of the student is from the teacher's. The definitions are in `limbeck-loss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenDistance {
    /// 1 - cosine of the angle between them.
    Cosine,
    /// Mean squared difference over the dimensions.
    Mse,
}

/// `[distill.hidden]`: a term for the outputs of some blocks, besides the divergence of the logits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HiddenSection {
    /// The distance of a target's states.
    pub kind: HiddenDistance,
    /// Factor on the mean over the pairs of blocks; 0 leaves the term out.
    pub weight: f64,
    /// Blocks whose outputs are compared, each `[student's, teacher's]`, counted from 0; default: every block of the
    /// student, with teacher's blocks that are evenly spaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Vec<usize>>>,
}

impl HiddenSection {
    /// Whether the term is in the loss.
    pub fn is_on(&self) -> bool {
        self.weight > 0.0
    }

    /// The pairs of blocks, student's first, of models with so many blocks: those that are given, or for the student's m-th
    /// of M the teacher's m · N / M-th of N, rounded down (TinyBERT's uniform strategy, arXiv:1909.10351). The last goes with
    /// the last.
    ///
    /// # Errors
    /// For a block that a model does not have.
    pub fn pairs(&self, student_layers: usize, teacher_layers: usize) -> Result<Vec<(usize, usize)>, Vec<Problem>> {
        let Some(layers) = &self.layers else {
            let teacher = |block: usize| ((block + 1) * teacher_layers / student_layers).max(1) - 1;
            return Ok((0..student_layers).map(|block| (block, teacher(block))).collect());
        };
        let (mut pairs, mut problems) = (Vec::new(), Vec::new());
        for (index, pair) in layers.iter().enumerate() {
            let &[student, teacher] = &pair[..] else { continue };
            for (whose, block, blocks) in [("student", student, student_layers), ("teacher", teacher, teacher_layers)] {
                if block >= blocks {
                    let rule = format!("must name a block of the {whose} under `{blocks}`");
                    problems.push(
                        Problem::new(format!("distill.hidden.layers.{index}"), format!("{pair:?}"), rule)
                            .hint("[student's, teacher's], the first block of a model being `0`"),
                    );
                }
            }
            pairs.push((student, teacher));
        }
        if problems.is_empty() { Ok(pairs) } else { Err(problems) }
    }

    pub(crate) fn check(&self, teacher: Option<&TeacherSection>, problems: &mut Vec<Problem>) {
        rules::not_negative(problems, "distill.hidden.weight", self.weight);
        let key = "distill.hidden.layers";
        if self.layers.as_ref().is_some_and(Vec::is_empty) {
            problems.push(
                Problem::new(key, "[]", "must have a pair")
                    .hint("leave layers out for all blocks of the student, or use a weight of `0`"),
            );
        }
        for (index, pair) in self.layers.iter().flatten().enumerate() {
            if pair.len() != 2 {
                problems.push(
                    Problem::new(format!("{key}.{index}"), format!("{pair:?}"), "must be two blocks")
                        .hint("[student's, teacher's], such as `[0, 1]`"),
                );
            } else if self.layers.iter().flatten().take(index).any(|other| other == pair) {
                problems.push(
                    Problem::new(format!("{key}.{index}"), format!("{pair:?}"), "must not be there twice")
                        .hint("leave one of them out"),
                );
            }
        }
        if self.is_on() && teacher.is_some_and(|teacher| teacher.logits.is_some()) {
            let rule = "needs a teacher that runs: captured logits say nothing of its hidden states";
            problems.push(
                Problem::new("distill.hidden.weight", format!("{:?}", self.weight), rule)
                    .reads("teacher.logits")
                    .hint("leave teacher.logits out (--set teacher.logits=), or use a weight of `0`"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(layers: Option<Vec<Vec<usize>>>) -> HiddenSection {
        HiddenSection { kind: HiddenDistance::Cosine, weight: 1.0, layers }
    }

    #[test]
    fn blocks_are_evenly_spaced_and_the_last_goes_with_the_last() {
        let pairs = |student, teacher| section(None).pairs(student, teacher).unwrap();
        // TinyBERT with 4 blocks of BERT's 12: g(m) = 3 m.
        assert_eq!(pairs(4, 12), [(0, 2), (1, 5), (2, 8), (3, 11)]);
        assert_eq!(pairs(3, 5), [(0, 0), (1, 2), (2, 4)]);
        assert_eq!(pairs(3, 3), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(pairs(5, 2), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]);
    }

    #[test]
    fn given_pairs_are_taken_and_blocks_that_are_not_there_refused() {
        let given = section(Some(vec![vec![1, 4], vec![1, 0]]));
        assert_eq!(given.pairs(2, 5).unwrap(), [(1, 4), (1, 0)]);
        let problems = given.pairs(1, 4).unwrap_err();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3);
        assert!(
            texts[0].starts_with("distill.hidden.layers.0 is `[1, 4]`, must name a block of the student under `1`")
        );
        assert!(
            texts[1].starts_with("distill.hidden.layers.0 is `[1, 4]`, must name a block of the teacher under `4`")
        );
    }
}

//! KL(student ‖ teacher), as MiniLLM has it (Gu et al. 2023, arXiv:2306.08543).

use crate::log_domain::kl_terms;
use crate::pair::{Pair, Terms};
use crate::real::Real;

/// `Σ q ln(q / p)`: the student may leave out what the teacher says, and pays for what the teacher would not say.
#[inline(always)]
pub(crate) fn reverse_kl<N: Real>(pair: Pair<N>) -> Terms<N> {
    let Pair { student, teacher, log_ratio } = pair;
    Terms { slope: student.clone() * log_ratio.clone(), value: kl_terms(student, teacher, -log_ratio) }
}

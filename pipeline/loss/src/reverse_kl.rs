//! KL(student ‖ teacher), as MiniLLM has it (Gu et al. 2023, arXiv:2306.08543).

use crate::log_domain::kl_terms;
use crate::pair::{Pair, Terms};

/// `Σ q ln(q / p)`: the student may leave out what the teacher says, and pays for what the teacher would not say.
pub(crate) fn reverse_kl(pair: Pair) -> Terms {
    let Pair { student, teacher, log_ratio } = pair;
    Terms {
        slopes: student.clone() * log_ratio.clone(),
        values: kl_terms(student, teacher, log_ratio.neg()),
        slopes_cancel: false,
    }
}

//! The rules that many keys share. Each adds a [`Problem`] when the value breaks it.

use crate::problem::Problem;

/// A finite number over 0; `usual` is for the hint.
pub(crate) fn positive(problems: &mut Vec<Problem>, key: &str, value: f64, usual: &str) {
    if !(value.is_finite() && value > 0.0) {
        problems.push(
            Problem::new(key, format!("{value:?}"), "must be a finite number over `0`")
                .hint(format!("`{usual}` is usual")),
        );
    }
}

/// A finite number, 0 or more.
pub(crate) fn not_negative(problems: &mut Vec<Problem>, key: &str, value: f64) {
    if !(value.is_finite() && value >= 0.0) {
        problems.push(
            Problem::new(key, format!("{value:?}"), "must be a finite number, `0` or more")
                .hint("use `0` to turn it off"),
        );
    }
}

/// A number of \[0, 1\].
pub(crate) fn fraction(problems: &mut Vec<Problem>, key: &str, value: f64) {
    if !(0.0..=1.0).contains(&value) {
        problems.push(Problem::new(key, format!("{value:?}"), "must be from `0` to `1`").hint("a tenth is `0.1`"));
    }
}

/// A number of \[0, 1).
pub(crate) fn under_one(problems: &mut Vec<Problem>, key: &str, value: f64, hint: &str) {
    if !(0.0..1.0).contains(&value) {
        problems.push(Problem::new(key, format!("{value:?}"), "must be from `0` to under `1`").hint(hint));
    }
}

/// A count that has a minimum.
pub(crate) fn at_least(problems: &mut Vec<Problem>, key: &str, value: u64, minimum: u64) {
    if value < minimum {
        problems.push(
            Problem::new(key, value, format!("must be at least `{minimum}`")).hint(format!("use `{minimum}` or more")),
        );
    }
}

/// A count that has a minimum and a maximum.
pub(crate) fn between(problems: &mut Vec<Problem>, key: &str, value: u32, minimum: u32, maximum: u32) {
    if !(minimum..=maximum).contains(&value) {
        problems.push(
            Problem::new(key, value, format!("must be from `{minimum}` to `{maximum}`"))
                .hint(format!("use `{}`", value.clamp(minimum, maximum))),
        );
    }
}

/// A text that is not empty.
pub(crate) fn not_empty(problems: &mut Vec<Problem>, key: &str, value: &str, example: &str) {
    if value.is_empty() {
        problems.push(Problem::new(key, value, "must not be empty").hint(format!("give one such as `{example}`")));
    }
}

/// A pattern of file or parameter names.
pub(crate) fn glob(problems: &mut Vec<Problem>, key: &str, value: &str) {
    if let Err(error) = glob::Pattern::new(value) {
        problems.push(
            Problem::new(key, value, format!("must be a glob: {} at character `{}`", error.msg, error.pos + 1))
                .hint("`*` stands for any text, `?` for one character, `[[]` for a bracket"),
        );
    }
}

/// Hint with the multiples of `of` around `value`.
pub(crate) fn nearest_multiples(value: usize, of: usize) -> String {
    let below = value / of * of;
    match (below, below.checked_add(of)) {
        (0, Some(above)) => format!("use `{above}`"),
        (below, Some(above)) => format!("use `{below}` or `{above}`"),
        (below, None) => format!("use `{below}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_around_a_value_leave_out_zero() {
        assert_eq!(nearest_multiples(100, 8), "use `96` or `104`");
        assert_eq!(nearest_multiples(5, 8), "use `8`");
        assert_eq!(nearest_multiples(usize::MAX, 2), format!("use `{}`", usize::MAX - 1));
    }

    fn is_broken(rule: fn(&mut Vec<Problem>, &str, f64), value: f64) -> bool {
        let mut problems = Vec::new();
        rule(&mut problems, "optimizer.epsilon", value);
        !problems.is_empty()
    }

    fn over_zero(problems: &mut Vec<Problem>, key: &str, value: f64) {
        positive(problems, key, value, "1.0");
    }

    #[test]
    fn numbers_that_are_not_finite_break_every_rule() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for rule in [over_zero, not_negative, fraction] {
                assert!(is_broken(rule, value), "{value}");
            }
        }
    }

    #[test]
    fn bounds_belong_to_the_range_where_the_rule_says_so() {
        assert!(is_broken(over_zero, 0.0) && !is_broken(over_zero, f64::MIN_POSITIVE));
        assert!(!is_broken(not_negative, 0.0) && is_broken(not_negative, -f64::MIN_POSITIVE));
        assert!(!is_broken(fraction, 0.0) && !is_broken(fraction, 1.0) && is_broken(fraction, 1.0 + f64::EPSILON));
    }
}

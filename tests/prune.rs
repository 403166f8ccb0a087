//! A student cut from its teacher: what goes, that it is what matters least, and what it is worth.

/// Parts that contribute nothing go, and nothing else changes.
mod dead_parts;
/// What the stages print and leave behind.
mod stages;
/// Against random weights, and against chance.
mod worth;

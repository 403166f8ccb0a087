//! What is wrong is said before the first step: exit status 2, one message that names the file, key or row with its
//! value, the rule and the way out, nothing on stdout, and everything that was complete as it was.

/// Command lines.
mod arguments;
/// Keys and values of a config.
mod configs;
/// Texts and conversations.
mod data;
/// Directories that hold another run, a damaged one, or no room.
mod directories;
/// Every value of every config replaced by nonsense.
mod nonsense;
/// Models that a config names.
mod sources;
/// Students that cannot be cut, and vocabularies that cannot be restricted.
mod students;

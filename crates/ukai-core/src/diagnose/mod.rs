//! From evidence to a named cause, by elimination.

pub mod evidence;
pub mod history;
pub mod verdict;

//! Evidence that is kept: a diagnosis with all that it was made from, to be derived again on any machine, and the archive of
//! an incident for the peer's support or the cloud's.

pub mod archive;
pub mod contents;
mod dump;
mod redact;
mod saved;
mod summary;
#[cfg(test)]
mod tests;

pub use saved::{Saved, of_incident};

//! Evidence that is kept: a diagnosis with all that it was made from, to be derived again on any machine, and the archive of
//! an incident for the peer's support or the cloud's.
//!
//! [`contents`] is what is in the archive, [`redact`] what is not, [`archive`] the file itself.

pub mod archive;
pub mod contents;
mod dump;
mod names;
mod redact;
mod saved;
mod summary;
#[cfg(test)]
mod tests;
mod timeline;

pub use saved::{Concluded, Saved, of_incident};

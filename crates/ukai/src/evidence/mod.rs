//! Evidence that is kept: a diagnosis with all that it was made from, to be derived again on any machine.

mod saved;

pub use saved::{Saved, of_incident};

//! The crossed set: every outage of the catalogue under conditions that its own row does not speak of.
//!
//! [`modifiers`] is the table of conditions, [`set`] crosses them with the scenarios, [`allowed`] says what is right where a
//! condition makes something else honest, and [`judge`] judges what was done. The tables are reviewed by people and share
//! nothing with the rules that they judge; who plays the combinations is the simulator.

pub mod allowed;
mod change;
pub mod judge;
pub mod modifiers;
pub mod set;
pub mod staging;

pub use judge::{Course, Judged, Served};
pub use set::{Combination, crossed};
pub use staging::{Staging, Then, Turn};

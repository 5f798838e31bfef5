//! The crossed set: every outage of the catalogue under conditions that its own row does not speak of.

pub mod staging;

pub use staging::{Clears, Staging, Turn};

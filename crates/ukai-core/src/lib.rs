//! ukai-core decides. It does no I/O, reads no clock and draws no randomness.

pub mod address;
pub mod alarm;
pub mod diagnose;
pub mod effect;
pub mod engine;
pub mod event;
pub mod input;
pub mod metric;
pub mod observe;
pub mod overrides;
pub mod peer;
pub mod plan;
pub mod state;

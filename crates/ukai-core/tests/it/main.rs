//! The engine, played by hand: inputs in, events and effects out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod alarm_exchange;
mod alarm_payload;
mod alarm_reason;
mod alarm_recordings;
mod bad_days;
mod crash;
mod diagnosis;
mod flapping;
mod guards;
mod noise;
mod paged;
mod path;
mod tidy;
mod world;

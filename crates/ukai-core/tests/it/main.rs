//! The engine, played by hand: inputs in, events and effects out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod alarm_composites;
mod alarm_engine;
mod alarm_exchange;
mod alarm_payload;
mod alarm_reason;
mod alarm_recordings;
mod alarm_replay;
mod bad_days;
mod crash;
mod desk;
mod diagnosis;
mod diagnosis_elsewhere;
mod elsewhere;
mod emptied;
mod flapping;
mod guards;
mod guards_alone;
mod leftover;
mod liars;
mod misread;
mod noise;
mod paged;
mod path;
mod play;
mod tidy;
mod told;
mod world;
mod zones;

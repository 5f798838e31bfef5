//! Outages in virtual time: the drill's scenarios, and many more, against the very engine that decides in the daemon.
//!
//! One thread, no socket, no clock: what the engine asks for is answered by a model of the world, after the time that it
//! would take. The same staging and seed give the same run, event by event. What is seen of it is judged by the lab's own
//! judge, so that a drill on real sockets and its simulation are held to the same words.
//!
//! - [`world`] is the model: name servers, resolvers, hosts, controls, evidence.
//! - [`crossed`] plays the crossed set.
//! - [`play`] is the run: engine, application, zone provider, people, time line.

pub mod crossed;
pub mod play;
pub mod world;

pub use play::{Ending, Played, play};

//! The product as its users have it: the binary, its processes and its sockets.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking, in its stages and questions as well"
)]

mod alarms;
mod bad_input;
mod crash;
mod drills;
mod evidence;
mod life;
mod looking;
mod metrics;
mod outage;
mod place;
mod tidy;
mod vantage;
mod zones;

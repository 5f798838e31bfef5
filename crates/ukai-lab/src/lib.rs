//! The drill lab: rehearsed outages on real sockets.
//!
//! A drill answers the question that a team has before it trusts a detour: *would it have worked?* It plays an outage
//! from a file, points the ordinary daemon at it, and watches from the application's side whether calls go through again.
//! Nothing in the daemon knows that it is a drill. What the lab needs from it are ordinary configuration keys.
//!
//! - [`scenario`] is the grammar: a world before anything breaks, faults and heals on a time line, what people do, and
//!   what must be concluded. Somebody who never saw this code can write one.
//! - [`world`] is the world: the peer's hosts, its name servers with a delegation from a root of the lab's own, a resolver
//!   that can lie, independent resolvers, controls; every one a socket on loopback that behaves as the scenario says and
//!   changes its behaviour while connections stand.
//! - [`certs`] is the certificate zoo: the authorities that the drill trusts and every way to be wrong.
//! - [`app`] is the application: a process of its own that resolves, connects and calls, as one that was never told about
//!   any of this.
//! - [`servers`] are name servers of the distribution (BIND, Knot, PowerDNS, Unbound) that hold or follow a policy zone.
//! - [`runner`] plays a scenario in such a world against the real daemon, and judges what was seen.
//!
//! The lab shares no code with what it drills. Its servers are built on one DNS library and the daemon on another, its
//! application has a resolver of its own: a misreading of a protocol cannot be made twice in the same way and pass.

pub mod app;
pub mod certs;
pub mod crossed;
pub mod runner;
pub mod scenario;
pub mod servers;
pub mod world;

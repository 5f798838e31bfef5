//! Touches peers: one staged check of an endpoint, address by address.
//!
//! A probe opens its own socket to one address and walks the stages in order: `connect`, `tls`, `processing`,
//! `transfer`. `resolve` has happened before: the caller passes the addresses in, so that the same probe serves the
//! normal path, the path past an override, and a candidate that nobody resolves to yet. The endpoint's real host is
//! used for SNI, for the certificate check and for the Host header; only the socket's address differs.
//!
//! The first stage that fails names the layer, and its [`ErrorClass`](ukai_core::observe::ErrorClass) names the fault.
//! A failed probe is an observation, not an error: nothing here returns `Err` for what a peer does.
//!
//! A peer is not trusted. Every wait has a time-out, everything that is read has a bound (header, body, certificate
//! names, addresses), redirects are recorded and never followed, what a peer says is escaped and cut before it is kept
//! ([`escape`]), an address that is not global is contacted only if the operator allows it ([`address`]), and a
//! candidate is sent no secret ([`Secrets::Without`]). The environment's proxy variables are not used, because a probe
//! through a proxy says nothing about the address; [`proxy_environment`] tells the caller that they are set.
//!
//! | module | holds |
//! | --- | --- |
//! | [`endpoint`] | what to check: URL, host, port |
//! | [`expect`] | what a good answer looks like |
//! | [`request`] | what is sent, secrets included |
//! | [`probe`] | one address, and all addresses of an answer |
//! | `connect`, `handshake`, `exchange` | the stages |
//! | `reuse` | a connection that is used twice; the certificate without a server name |
//! | `counted` | how much had come when a stage timed out |
//! | `roots`, `verifier`, `certificate` | whom we trust, the decision, and who answered |
//! | `fault` | libraries' errors in our classes |
//! | `facts`, [`parking`] | what an HTTP answer says of itself |
//! | [`sentence`] | what is wrong, for a tired person |

pub use ukai_core::address;
mod certificate;
mod connect;
mod counted;
pub mod endpoint;
pub mod escape;
mod exchange;
pub mod expect;
mod facts;
mod fault;
mod handshake;
pub mod parking;
pub mod probe;
mod proxy;
pub mod request;
mod reuse;
mod roots;
pub mod sentence;
pub mod timing;
mod verifier;

pub use address::is_global;
pub use endpoint::{Endpoint, EndpointError, Kind};
pub use expect::{BodyRegex, Expectation, ExpectationError, HeaderExpectation, JsonExpectation, StatusSet};
pub use probe::{Prober, ProberError, ProberOptions, Round};
pub use proxy::proxy_environment;
pub use request::{ClientCertificate, Method, Request, RequestError, Secret, Secrets, USER_AGENT};
pub use sentence::{explain, explain_resolution};
pub use timing::Timeouts;

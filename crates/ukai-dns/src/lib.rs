//! ukai speaks DNS here: it asks, it walks, and it serves.

pub mod client;
pub mod delegation;
pub mod message;
pub mod name;
pub mod server;
pub mod system;
pub mod types;
pub mod upstream;
mod wire;

pub use client::{AskError, AskOptions, Client, ClientOptions};
pub use message::{Data, Question, Record, Reply, Soa};
pub use name::{Name, NameError};
pub use types::{ExtendedError, Rcode, RecordType, Transport};
pub use upstream::{Upstream, UpstreamError};

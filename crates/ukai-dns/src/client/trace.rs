//! What came where no reply did.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Filled while one question is asked; it outlives the question's time-out.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    message: Vec<u8>,
    strange: u32,
}

impl Trace {
    /// How many messages came that do not answer the question: another id, another question, no response at all
    /// (RFC 5452, 9.1).
    pub fn strange_count(&self) -> u32 {
        self.seen().strange
    }

    /// The message that answers the question and cannot be read; else the first that does not answer it. At most 64 KiB.
    pub fn into_message(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).message
    }

    pub(super) fn strange(&self, message: &[u8]) {
        let mut seen = self.seen();
        seen.strange = seen.strange.saturating_add(1);
        // The first alone is kept: a flood costs one copy.
        if seen.strange == 1 {
            seen.message = message.to_vec();
        }
    }

    pub(super) fn unreadable(&self, message: Vec<u8>) {
        self.seen().message = message;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! One value that is replaced as a whole: every reader gets the old or the new.

use std::sync::{PoisonError, RwLock};

/// `T` is cheap to clone.
pub(crate) struct Swap<T>(RwLock<T>);

impl<T: Clone> Swap<T> {
    pub fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    pub fn get(&self) -> T {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

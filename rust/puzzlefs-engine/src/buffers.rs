//! Memory that a build uses again and again: getting it from the system anew costs more than filling it.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that are free, for all threads of a build.
#[derive(Clone, Default)]
pub struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// Returns an empty buffer with room for at least `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Buffer {
        let free = self.lock().pop();
        let mut bytes = free.unwrap_or_default();
        bytes.clear();
        bytes.reserve(capacity);
        Buffer {
            bytes,
            home: self.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer; when it is dropped, it goes back to where it came from.
pub struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        self.home.lock().push(bytes);
    }
}

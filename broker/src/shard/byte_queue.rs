//! Bytes that are written at the end and taken from the front.

use super::limits;

/// Owned by a connection: what came in, or what is to go out.
#[derive(Debug, Default)]
pub(super) struct ByteQueue {
    bytes: Vec<u8>,
    start: usize,
}

impl ByteQueue {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in order.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn into_vec(mut self) -> Vec<u8> {
        self.bytes.drain(..self.start);
        self.bytes
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Where what is to stand at the end is written.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn give_memory_back(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn pop_into(&mut self, length: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[self.start..self.start + length]);
        self.skip(length);
    }

    pub(super) fn skip(&mut self, length: usize) {
        self.start += length;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > limits::KEPT_BUFFER_BYTES_MAX {
                self.bytes = Vec::new();
            }
        } else if self.start >= limits::KEPT_BUFFER_BYTES_MAX && self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

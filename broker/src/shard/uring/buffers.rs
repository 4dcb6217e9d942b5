//! The buffers that the kernel receives into, as a ring of provided buffers.
//!
//! The kernel takes the next buffer when bytes arrive and names it in the completion; it is ours until
//! [`Buffers::give_back`]. They are few and not large, so that those in use stay in the cache: data is
//! looked at and given back in the same turn.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::{BUFFER_GROUP, Ring};

/// How many buffers there are, a power of two. When all are taken, receiving ends with ENOBUFS for the
/// connections that find none; it begins again in later turns, for as many at a time as there are buffers.
pub(super) const BUFFER_COUNT: u16 = 256;

/// The size of one; one completion brings no more.
pub(super) const BUFFER_BYTES: usize = 16 << 10;

const PAGE_BYTES: usize = 4096;

const MEMORY_BYTES: usize = BUFFER_COUNT as usize * BUFFER_BYTES;

/// Buffers shared with the kernel. Must outlive the ring that they are registered with.
pub(super) struct Buffers {
    /// The ring of entries that the kernel reads, page aligned.
    entries: NonNull<BufRingEntry>,
    /// All buffers, one behind the other.
    memory: NonNull<u8>,
    /// How many buffers were ever given to the kernel, as it counts them.
    tail: u16,
    /// Which are ours at the moment; what the kernel says is checked against it.
    ours: Box<[bool]>,
}

impl Buffers {
    /// Registers buffers with a ring and gives it all of them.
    pub(super) fn register(ring: &Ring) -> io::Result<Self> {
        let mut buffers = Self {
            entries: allocate(entries_layout()).cast(),
            memory: map(MEMORY_BYTES),
            tail: 0,
            ours: vec![true; usize::from(BUFFER_COUNT)].into_boxed_slice(),
        };
        let address = buffers.entries.as_ptr() as u64;
        let submitter = ring.io_uring().submitter();
        // SAFETY: the entries are page aligned, zeroed, as many as said, and are freed only after the
        // ring is gone (the driver drops the ring first).
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFER_COUNT, BUFFER_GROUP, 0)? };
        for number in 0..BUFFER_COUNT {
            buffers.give_back(number);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What was received into a buffer that a completion has named.
    pub(super) fn received(&mut self, number: u16, length: usize) -> &[u8] {
        let is_ours = &mut self.ours[usize::from(number)];
        assert!(!*is_ours, "the kernel fills only buffers that it was given");
        *is_ours = true;
        assert!(length <= BUFFER_BYTES, "the kernel keeps to the buffer's size");
        // SAFETY: the buffer lies inside the memory, is initialised, and since its completion the
        // kernel does not touch it before it is given back, which takes `&mut self`.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(number) * BUFFER_BYTES);
            std::slice::from_raw_parts(start, length)
        }
    }

    /// Lets the kernel have a buffer again, from the next [`Buffers::publish`] on.
    pub(super) fn give_back(&mut self, number: u16) {
        let is_ours = &mut self.ours[usize::from(number)];
        assert!(*is_ours, "a buffer is given back once");
        *is_ours = false;
        let place = usize::from(self.tail & (BUFFER_COUNT - 1));
        // SAFETY: the place lies inside the ring of entries. The kernel reads it only once the tail
        // has passed it, which is written in `publish`; at most BUFFER_COUNT are out at a time, so an
        // entry that it has yet to read is not overwritten. The setters do not touch the tail, which
        // lies in the first entry's unused field.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(place);
            entry.set_addr(self.memory.as_ptr().add(usize::from(number) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(number);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail is an aligned u16 inside the ring of entries, written by us alone and read
        // by the kernel; the release makes the entries before it visible first.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: the entries were allocated with this layout, the memory was mapped with this length, and the
        // ring that knew them is gone.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout());
            libc::munmap(self.memory.as_ptr().cast(), MEMORY_BYTES);
        }
    }
}

fn entries_layout() -> Layout {
    let bytes = usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>();
    Layout::from_size_align(bytes, PAGE_BYTES).expect("a constant size and a power of two")
}

/// Memory of the kernel's own giving, in large pages where it has such: a shard that receives nothing then takes
/// none of it, which an allocator that shares its large pages out would have it do.
fn map(bytes: usize) -> NonNull<u8> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh anonymous private mapping; no memory of ours is touched.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("a constant size and a power of two");
    if address == libc::MAP_FAILED {
        handle_alloc_error(layout);
    }
    // SAFETY: the range is exactly the mapping made above. Without large pages small ones serve as well, so the
    // result does not matter.
    unsafe { libc::madvise(address, bytes, libc::MADV_HUGEPAGE) };
    NonNull::new(address.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

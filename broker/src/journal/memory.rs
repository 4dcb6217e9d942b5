//! The memory that segments live in: anonymous, block aligned, and shared with the kernel while it
//! writes.
//!
//! This is the only module of the journal with unsafe code. What makes it sound is one line per
//! segment, the seal: bytes below it are never changed again and may be read by anybody who holds a
//! [`SealedRange`]; bytes from it on belong to the [`SegmentMemory`] alone, which checks on every
//! mutable access that it stays behind the seal.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::BLOCK_BYTES;
use super::position::round_up;
use crate::large_pages::{LARGE_PAGE_BYTES, Mapping};

/// The memory of one segment. Owned by the log of one shard.
#[derive(Debug)]
pub struct SegmentMemory {
    mapping: Arc<Mapping>,
    /// Bytes below this offset are never changed again.
    sealed: usize,
    /// Bytes below this offset have pages, or somebody was asked to see to it.
    paged: usize,
}

impl SegmentMemory {
    /// Maps `length` bytes of zeros; an error where the kernel has none.
    pub fn new(length: usize) -> io::Result<Self> {
        Ok(SegmentMemory { mapping: Arc::new(Mapping::new(length)?), sealed: 0, paged: 0 })
    }

    /// How many bytes there are.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> usize {
        self.mapping.length()
    }

    /// The bytes of a range; `None` where it is not inside.
    #[inline]
    pub fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.mapping.length() {
            return None;
        }
        // SAFETY: inside the mapping. Bytes change only through `bytes_mut`, which borrows this value
        // mutably, so never while the slice lives.
        Some(unsafe {
            std::slice::from_raw_parts(
                self.mapping.start().as_ptr().add(range.start),
                range.end - range.start,
            )
        })
    }

    /// The bytes of a range that lies behind the seal, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(
            self.sealed <= range.start && range.start <= range.end && range.end <= self.mapping.length(),
            "only unsealed bytes of the segment may change"
        );
        // SAFETY: inside the mapping. Sealed ranges end at or before `sealed`, so none of them covers
        // these bytes; `get` cannot be in use, as this value is borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.mapping.start().as_ptr().add(range.start),
                range.end - range.start,
            )
        }
    }

    /// The next large page that is wanted for the bytes before `end` and was not asked for.
    pub fn fresh_page(&mut self, end: usize) -> Option<FreshPage> {
        let end = end.min(self.mapping.length());
        if end <= self.paged {
            return None;
        }
        let start = self.paged;
        self.paged = (start + LARGE_PAGE_BYTES).min(self.mapping.length());
        Some(FreshPage { mapping: Arc::clone(&self.mapping), start, length: self.paged - start })
    }

    /// Seals everything up to the end of the range and gives out the range.
    pub fn seal(&mut self, range: Range<usize>) -> SealedRange {
        assert!(range.start <= range.end && range.end <= self.mapping.length(), "inside the segment");
        self.sealed = self.sealed.max(range.end);
        SealedRange {
            mapping: Arc::clone(&self.mapping),
            start: range.start,
            length: range.end - range.start,
        }
    }

    /// The same memory for another segment, its old bytes still in it; `None` (and unmapped in its
    /// time) where somebody still holds a range of it (rule 13).
    pub fn recycle(mut self) -> Option<SegmentMemory> {
        Arc::get_mut(&mut self.mapping)?;
        self.sealed = 0;
        Some(self)
    }
}

/// A part of a segment that shall have its page before anybody writes there. It may go to any thread.
#[derive(Debug)]
pub struct FreshPage {
    mapping: Arc<Mapping>,
    start: usize,
    length: usize,
}

impl FreshPage {
    /// Has the kernel make the page now. Where it does not, the first write there does as well.
    pub fn make(&self) {
        // SAFETY: the range is inside the mapping, which is alive. Making pages changes no byte (one that is
        // there stays, one that is not reads as zeros before and after), so it does not matter who reads or
        // writes there meanwhile.
        unsafe {
            let start = self.mapping.start().as_ptr().add(self.start);
            libc::madvise(start.cast(), self.length, libc::MADV_POPULATE_WRITE);
        }
    }
}

/// Bytes of a segment that nobody changes any more, kept alive for as long as this is held. It may go
/// to any thread, and to the kernel.
#[derive(Debug, Clone)]
pub struct SealedRange {
    mapping: Arc<Mapping>,
    start: usize,
    length: usize,
}

impl SealedRange {
    /// A range of its own with a copy of `bytes`, aligned to blocks and padded to them with zeros.
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let length = round_up(bytes.len().max(1), BLOCK_BYTES);
        let mut memory = SegmentMemory::new(length)?;
        memory.bytes_mut(0..bytes.len()).copy_from_slice(bytes);
        Ok(memory.seal(0..length))
    }

    /// Where the bytes lie.
    pub fn as_ptr(&self) -> *const u8 {
        self.as_ref().as_ptr()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl AsRef<[u8]> for SealedRange {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was inside the mapping when it was sealed, the mapping is alive, and
        // sealed bytes never change: `bytes_mut` refuses them, and `recycle` refuses while we live.
        unsafe { std::slice::from_raw_parts(self.mapping.start().as_ptr().add(self.start), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_outlive_their_segment() {
        let mut memory = SegmentMemory::new(65536).expect("maps");
        memory.bytes_mut(0..4).copy_from_slice(b"pins");
        let sealed = memory.seal(0..4096);
        assert_eq!(sealed.as_ptr() as usize % BLOCK_BYTES, 0);
        assert_eq!(memory.get(0..4), Some(&b"pins"[..]));
        assert_eq!(memory.get(65530..65540), None);
        assert!(memory.recycle().is_none(), "somebody still reads it");
        assert_eq!(&sealed.as_ref()[..4], b"pins");
        assert_eq!(&SealedRange::copy_of(b"strike").expect("maps").as_ref()[..6], b"strike");
    }

    #[test]
    #[should_panic(expected = "only unsealed bytes")]
    fn sealed_bytes_never_change() {
        let mut memory = SegmentMemory::new(65536).expect("maps");
        let _sealed = memory.seal(0..4096);
        memory.bytes_mut(4095..4096);
    }

    #[test]
    fn pages_are_asked_for_once_and_leave_bytes_as_they_are() {
        let mut memory = SegmentMemory::new(5 << 20).expect("maps");
        memory.bytes_mut(0..4).copy_from_slice(b"pins");
        let page = memory.fresh_page(1).expect("nothing was asked for");
        assert_eq!((page.start, page.length), (0, 2 << 20));
        page.make();
        drop(page);
        assert_eq!(memory.get(0..8), Some(&b"pins\0\0\0\0"[..]));
        assert!(memory.fresh_page(2 << 20).is_none());
        assert_eq!(memory.fresh_page(6 << 20).map(|page| page.start), Some(2 << 20));
        assert_eq!(
            memory.fresh_page(6 << 20).map(|page| (page.start, page.length)),
            Some((4 << 20, 1 << 20))
        );
        assert!(memory.fresh_page(6 << 20).is_none());
        let mut memory = memory.recycle().expect("nobody holds it");
        assert!(memory.fresh_page(6 << 20).is_none(), "its pages are there");
    }

    #[test]
    fn memory_is_used_again_when_nobody_reads_it() {
        let mut memory = SegmentMemory::new(65536).expect("maps");
        drop(memory.seal(0..4096));
        let mut memory = memory.recycle().expect("nobody holds it");
        memory.bytes_mut(0..1)[0] = 1;
    }
}

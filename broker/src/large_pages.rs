//! Memory in large pages, where the kernel gives such: fresh from the kernel, and given back to it.
//!
//! A table of millions of entries is looked into anywhere. In small pages nearly each look would have the
//! processor search for the address first, in tables that are themselves not in its caches.

use std::alloc::{Layout, handle_alloc_error};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A large page. The kernel clears it at once when its first byte is touched, which takes a fraction of a
/// millisecond, and several where it has to ask the host of a virtual machine for it.
pub(crate) const LARGE_PAGE_BYTES: usize = 2 << 20;

/// An anonymous mapping of zeros; unmapped when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is plain memory that belongs to no thread; who may read or write which part of
// it is ruled by its holders.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared `Mapping` by itself gives no access to its bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps so many bytes; an error where the kernel has none.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        assert!(length > 0, "an empty mapping has no address");
        // SAFETY: a fresh anonymous private mapping; no memory of ours is touched.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        if length >= LARGE_PAGE_BYTES {
            // SAFETY: the range is exactly the mapping made above. Where large pages are not allowed
            // the call fails and small ones serve as well, so its result does not matter.
            unsafe { libc::madvise(address, length, libc::MADV_HUGEPAGE) };
        }
        let start = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Mapping { start, length })
    }

    /// Where it begins; it is aligned to small pages at least.
    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes there are.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and nobody holds it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// As many entries as a table grows by, in memory of their own.
#[derive(Debug)]
pub(crate) struct LargeArray<T, const COUNT: usize> {
    mapping: Mapping,
    entries: std::marker::PhantomData<[T; COUNT]>,
}

impl<T: Copy, const COUNT: usize> LargeArray<T, COUNT> {
    const LAYOUT: Layout = Layout::new::<[T; COUNT]>();

    /// Entries that are all like this one, their memory there.
    pub(crate) fn filled(entry: T) -> Self {
        const { assert!(align_of::<T>() <= 4096 && size_of::<[T; COUNT]>() > 0) };
        let Ok(mapping) = Mapping::new(Self::LAYOUT.size()) else { handle_alloc_error(Self::LAYOUT) };
        let start = mapping.start().cast::<T>();
        for index in 0..COUNT {
            // SAFETY: inside the mapping, which is as long as the array and aligned to pages.
            unsafe { start.add(index).write(entry) };
        }
        Self { mapping, entries: std::marker::PhantomData }
    }
}

impl<T, const COUNT: usize> Deref for LargeArray<T, COUNT> {
    type Target = [T; COUNT];

    #[inline]
    fn deref(&self) -> &[T; COUNT] {
        // SAFETY: each entry was written when the array was made, and the mapping is this value's alone.
        unsafe { self.mapping.start().cast().as_ref() }
    }
}

impl<T, const COUNT: usize> DerefMut for LargeArray<T, COUNT> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T; COUNT] {
        // SAFETY: as above, and this value is borrowed mutably.
        unsafe { self.mapping.start().cast().as_mut() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_holds_what_it_was_filled_with_and_what_is_written_to_it() {
        let mut array = LargeArray::<u64, { LARGE_PAGE_BYTES / 8 }>::filled(7);
        assert!(array.iter().all(|&entry| entry == 7));
        array[1_000] = 8;
        array[LARGE_PAGE_BYTES / 8 - 1] = 9;
        let copy = LargeArray::<u64, 3>::filled(array[1_000]);
        assert_eq!((copy[..].to_vec(), array[999], array.last()), (vec![8; 3], 7, Some(&9)));
    }
}

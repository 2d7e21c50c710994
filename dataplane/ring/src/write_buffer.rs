//! Page-aligned memory for durable writes.
//!
//! Invariants: the first `len` bytes are initialised; the address does not move while the kernel has it, because
//! [`Io::write_durable`](crate::Io::write_durable) takes the buffer and gives it back with the result.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::limits::WRITE_ALIGNMENT;

/// Bytes on their way to a file, aligned for direct writes. Made once, reused through [`WriteDone`](crate::WriteDone).
pub struct WriteBuffer {
    start: NonNull<u8>,
    capacity: usize,
    len: usize,
}

// SAFETY: needed because of the raw pointer. Sound because the memory is owned by this value alone, like a Vec's.
unsafe impl Send for WriteBuffer {}
// SAFETY: as above; `&WriteBuffer` only reads.
unsafe impl Sync for WriteBuffer {}

impl WriteBuffer {
    /// An empty buffer with room for at least `bytes`, rounded up to whole pages.
    pub fn with_capacity_aligned(bytes: usize) -> Self {
        let capacity = round_up(bytes.max(1), WRITE_ALIGNMENT);
        Self { start: allocate(capacity), capacity, len: 0 }
    }

    /// Appends. Grows by doubling when full; a buffer sized for its batches never does.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        // SAFETY: needed to write into raw memory. Sound because `reserve` made room, and `bytes` cannot overlap memory this
        // value owns exclusively.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.start.as_ptr().add(self.len),
                bytes.len(),
            );
        }
        self.len += bytes.len();
    }

    /// Appends zeros up to a multiple of `block` bytes.
    pub fn pad_to(&mut self, block: usize) {
        let padded = round_up(self.len, block.max(1));
        self.reserve(padded - self.len);
        // SAFETY: needed to write into raw memory. Sound because `reserve` made room.
        unsafe {
            std::ptr::write_bytes(self.start.as_ptr().add(self.len), 0, padded - self.len);
        }
        self.len = padded;
    }

    /// Bytes appended.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that fit without growing.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the bytes, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: needed to view raw memory. Sound because the first `len` bytes are initialised and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, for patching a header or checksum in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    fn reserve(&mut self, bytes: usize) {
        let needed =
            self.len.checked_add(bytes).expect("a buffer is smaller than the address space");
        if needed <= self.capacity {
            return;
        }
        let mut larger = Self::with_capacity_aligned(needed.max(self.capacity.saturating_mul(2)));
        larger.extend_from_slice(self.as_slice());
        *self = larger;
    }
}

impl Drop for WriteBuffer {
    fn drop(&mut self) {
        // SAFETY: needed to free what `allocate` got. Sound because the layout is the same and nobody else has the pointer: the
        // kernel's writes own the buffer until they completed.
        unsafe { dealloc(self.start.as_ptr(), layout(self.capacity)) };
    }
}

impl std::fmt::Debug for WriteBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The bytes are messages of tenants: not for logs.
        f.debug_struct("WriteBuffer")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish()
    }
}

impl std::io::Write for WriteBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn round_up(bytes: usize, block: usize) -> usize {
    bytes.div_ceil(block).checked_mul(block).expect("a buffer is smaller than the address space")
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, WRITE_ALIGNMENT)
        .expect("a buffer is smaller than the address space")
}

fn allocate(capacity: usize) -> NonNull<u8> {
    let layout = layout(capacity);
    // SAFETY: needed because Vec cannot be aligned to pages. Sound because the layout has a non-zero size (`with_capacity_aligned`
    // rounds up from at least one byte) and failure is handled.
    let start = unsafe { alloc_zeroed(layout) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stays_aligned_and_bytes_survive_growth_and_padding() {
        let mut buffer = WriteBuffer::with_capacity_aligned(10);
        assert_eq!(buffer.capacity(), 4096);
        let bytes: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        buffer.extend_from_slice(&bytes);
        assert_eq!(buffer.as_slice(), bytes);
        assert_eq!(buffer.as_slice().as_ptr() as usize % WRITE_ALIGNMENT, 0);
        buffer.pad_to(4096);
        assert_eq!(buffer.len(), 12_288);
        assert_eq!(&buffer.as_slice()[..10_000], bytes);
        assert!(buffer.as_slice()[10_000..].iter().all(|byte| *byte == 0));
        buffer.pad_to(4096);
        assert_eq!(buffer.len(), 12_288);
        buffer.clear();
        assert!(buffer.is_empty());
        buffer.extend_from_slice(b"again");
        buffer.pad_to(512);
        assert_eq!(&buffer.as_slice()[..8], b"again\0\0\0");
    }
}

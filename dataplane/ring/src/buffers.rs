//! The receive buffers one ring shares among all its connections.
//!
//! The kernel takes a buffer when bytes arrive, so an idle connection costs none. Invariants: a buffer is either the kernel's
//! (published in the ring) or ours (between its completion and `give_back`), never both; the pages are unmapped only after the
//! group was unregistered.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::config::{RingConfig, RingError};
use crate::queue::Queue;

/// The one buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

pub(crate) struct ReceiveBuffers {
    entries: Pages,
    memory: Pages,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
    published: u16,
}

impl ReceiveBuffers {
    /// Maps the buffers, fills the ring and registers it.
    pub(crate) fn register(config: &RingConfig, queue: &Queue) -> Result<Self, RingError> {
        let count = config.receive_buffers;
        let map = |bytes| Pages::map(bytes).map_err(RingError::setup("map the receive buffers"));
        let mut buffers = Self {
            entries: map(usize::from(count) * size_of::<BufRingEntry>())?,
            memory: map(usize::from(count) * config.receive_buffer_bytes as usize)?,
            count,
            buffer_bytes: config.receive_buffer_bytes,
            tail: 0,
            published: 0,
        };
        for buffer in 0..count {
            buffers.give_back(buffer);
        }
        buffers.publish();
        // SAFETY: needed because the kernel keeps the address. Sound because the pages have the size named here and are
        // unmapped only by `Pages::drop`, after `unregister` or never (see `Ring`'s drop).
        unsafe {
            queue.submitter().register_buf_ring_with_flags(
                buffers.entries.start.as_ptr() as u64,
                count,
                GROUP,
                0,
            )
        }
        .map_err(RingError::setup("register the receive buffers"))?;
        Ok(buffers)
    }

    /// The first `bytes` bytes of a buffer the kernel filled. The borrow ends before the buffer can be given back.
    pub(crate) fn filled(&self, buffer: u16, bytes: usize) -> &[u8] {
        let buffer_bytes = self.buffer_bytes as usize;
        assert!(buffer < self.count && bytes <= buffer_bytes, "the kernel names our own buffers");
        // SAFETY: needed because the bytes were written by the kernel into mapped pages. Sound because the range was just
        // checked, the pages are initialised (zeroed by mmap), and the kernel does not touch a buffer between its completion
        // and `give_back`, which needs `&mut self` and so cannot happen during this borrow.
        unsafe {
            std::slice::from_raw_parts(
                self.memory.start.as_ptr().add(usize::from(buffer) * buffer_bytes),
                bytes,
            )
        }
    }

    /// Returns a buffer; the kernel sees it after [`publish`](Self::publish).
    pub(crate) fn give_back(&mut self, buffer: u16) {
        assert!(buffer < self.count, "the kernel names our own buffers");
        let position = usize::from(self.tail & (self.count - 1));
        // SAFETY: needed to write the entry the kernel will read. Sound because the position is masked to the ring's size, the
        // mapping is zeroed and aligned to a page, and the kernel does not read entries at or beyond the published tail. The
        // tail itself shares memory with the first entry's reserved field, which these setters do not touch.
        unsafe {
            let entry = &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(position);
            let offset = usize::from(buffer) * self.buffer_bytes as usize;
            entry.set_addr(self.memory.start.as_ptr().add(offset) as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows returned buffers to the kernel.
    pub(crate) fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        self.published = self.tail;
        // SAFETY: needed because the tail lives in shared memory. Sound because the entry is inside the mapping, u16-aligned,
        // and only ever accessed atomically: by us here, by the kernel with acquire loads.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.start.as_ptr().cast::<BufRingEntry>());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }

    /// Takes the group from the kernel; the pages may be unmapped afterwards.
    pub(crate) fn unregister(&self, queue: &Queue) -> io::Result<()> {
        queue.submitter().unregister_buf_ring(GROUP)
    }
}

/// Anonymous private pages.
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    fn map(bytes: usize) -> io::Result<Self> {
        // SAFETY: needed because the kernel wants page-aligned memory it may keep. Sound because no address is asked for and no
        // file is mapped; failure is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: needed to return the pages. Sound because the range is exactly what `map` got and nothing borrows it: slices
        // borrow the owner, and the owner unregisters or leaks before this runs.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

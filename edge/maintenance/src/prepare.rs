//! Writing a segment of zeros past the page cache.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fulcrum_journal::{WriteMode, blocking, open_segment};
use glommio::allocate_dma_buffer_global;
use glommio::io::{Directory, DmaFile, OpenOptions, remove, rename};

use crate::inbox::Requests;

/// Bytes of one write: large enough for the disk, small enough to let commits in between.
const WRITE_BYTES: u64 = 1 << 20;

/// Prepares the segment and opens it for `mode`. On an error no file is left behind.
pub(crate) async fn prepare(
    path: &Path,
    bytes: u64,
    mode: WriteMode,
    requests: &Requests,
) -> io::Result<File> {
    // glommio opens a directory by a relative path against no directory at all: EBADF.
    let path = &std::path::absolute(path)?;
    let unfinished = unfinished(path);
    let written = match write(path, &unfinished, bytes, requests).await {
        Err(error) if has_no_direct_writes(&error) => {
            let path = path.to_path_buf();
            glommio::executor().spawn_blocking(move || blocking::prepare(&path, bytes)).await
        }
        written => written,
    };
    if let Err(error) = written {
        // The first error is the one to tell; the journal removes leftovers when it is opened.
        let _ = remove(&unfinished).await;
        return Err(error);
    }
    open_segment(path, mode)
}

async fn write(path: &Path, unfinished: &Path, bytes: u64, requests: &Requests) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .dma_open(unfinished)
        .await
        .map_err(io::Error::from)?;
    let filled = fill(&file, bytes, requests).await;
    let closed = file.close().await.map_err(io::Error::from);
    filled.and(closed)?;
    rename(unfinished, path).await.map_err(io::Error::from)?;
    if let Some(parent) = path.parent() {
        let directory = Directory::open(parent).await.map_err(io::Error::from)?;
        directory.sync().await.map_err(io::Error::from)?;
        directory.close().await.map_err(io::Error::from)?;
    }
    Ok(())
}

async fn fill(file: &DmaFile, bytes: u64, requests: &Requests) -> io::Result<()> {
    match file.pre_allocate(bytes, false).await.map_err(io::Error::from) {
        // A file system without preallocation says so; the writes below say when there is no room.
        Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
        _ => {}
    }
    let mut zeros = allocate_dma_buffer_global(WRITE_BYTES.min(bytes) as usize);
    zeros.as_bytes_mut().fill(0);
    let mut zeros = Rc::new(zeros);
    let mut at = 0;
    while at < bytes {
        if requests.is_stopping() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let part = (bytes - at).min(zeros.len() as u64);
        if part < zeros.len() as u64 {
            let mut last = allocate_dma_buffer_global(part as usize);
            last.as_bytes_mut().fill(0);
            zeros = Rc::new(last);
        }
        let written = file.write_rc_at(zeros.clone(), at).await.map_err(io::Error::from)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        // A short write is repeated from the last whole block on: direct writes begin on blocks.
        at += (written as u64 / file.alignment() * file.alignment()).min(part);
        if (written as u64) < file.alignment() {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    file.fdatasync().await.map_err(io::Error::from)
}

fn has_no_direct_writes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

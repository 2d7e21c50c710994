//! Files: names, opening as the write mode needs it, preparing a segment with blocking calls, syncing directories.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::WriteMode;
use crate::error::JournalError;

const SEGMENT_SUFFIX: &str = ".seg";
/// Zeros written at a time.
const ZEROS_BYTES: usize = 256 * 1024;

/// File name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("{number:020}{SEGMENT_SUFFIX}")
}

/// Opens a prepared segment for reading and for writing in `mode`.
///
/// # Errors
/// Those of the file system; `EINVAL` for [`WriteMode::DirectSync`] where it has no direct writes.
pub fn open_segment(path: &Path, mode: WriteMode) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if mode == WriteMode::DirectSync {
        options.custom_flags(libc::O_DIRECT | libc::O_DSYNC);
    }
    options.open(path)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// Those of the file system.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Segment numbers in `dir`, ascending. Files of other names are left alone.
pub(crate) fn list_segments(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let mut numbers = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        entries => entries.map_err(JournalError::io("list", dir))?,
    };
    for entry in entries {
        let name = entry.map_err(JournalError::io("list", dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SEGMENT_SUFFIX));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Name of a segment that is not complete yet.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Removes what interrupted preparations left.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<(), JournalError> {
    for entry in fs::read_dir(dir).map_err(JournalError::io("list", dir))? {
        let path = entry.map_err(JournalError::io("list", dir))?.path();
        if path.to_str().is_some_and(|path| path.ends_with(".seg.tmp")) {
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Writes a segment of zeros, syncs it and gives it its name. On an error nothing is left behind.
pub(crate) fn prepare_segment(
    path: &Path,
    bytes: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), JournalError> {
    let unfinished = unfinished(path);
    let written = write_zeros(&unfinished, bytes, progress)
        .and_then(|()| fs::rename(&unfinished, path))
        .and_then(|()| path.parent().map_or(Ok(()), sync_directory));
    written.map_err(|source| {
        // The first error is the one to tell; a file that cannot be removed is removed at the next start.
        let _ = fs::remove_file(&unfinished);
        JournalError::Prepare { path: path.to_path_buf(), bytes, source }
    })
}

fn write_zeros(path: &Path, bytes: u64, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut file = File::create(path)?;
    let zeros = vec![0; ZEROS_BYTES];
    let mut written = 0;
    while written < bytes {
        let part = zeros.len().min((bytes - written) as usize);
        file.write_all(&zeros[..part])?;
        written += part as u64;
        progress(written);
    }
    file.sync_all()
}

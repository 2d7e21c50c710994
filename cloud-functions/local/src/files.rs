//! The data directory and the secrets in it.
//!
//! A file is written under another name, synced and renamed: it is there whole or not at all.

use crate::LocalError;
use fulcrum_domain::secrets;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Shortest operator token that is taken from the file, in bytes.
const TOKEN_BYTES_MIN: usize = 32;

fn at(path: &Path) -> impl Fn(io::Error) -> LocalError {
    let path = path.to_owned();
    move |cause| LocalError::File { path: path.clone(), cause }
}

/// Makes the directory, for its owner alone, if it is not there.
pub(crate) fn prepare_dir(path: &Path) -> Result<(), LocalError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// The operator's token; made on the first start.
pub(crate) fn operator_token(path: &Path) -> Result<String, LocalError> {
    match read(path)? {
        Some(token) if token.trim().len() >= TOKEN_BYTES_MIN => {
            make_private(path)?;
            Ok(token.trim().to_owned())
        }
        Some(_) => Err(LocalError::Damaged(path.to_owned())),
        None => {
            let token = secrets::new_secret();
            write(path, &format!("{token}\n"), 0o600)?;
            Ok(token)
        }
    }
}

/// The file's text; none if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, LocalError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Writes the whole file with the mode.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), LocalError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let put = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&new)?;
        // The mode above only counts for a file that was not there.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    put().map_err(at(path))
}

/// Takes the file from everybody but its owner.
pub(crate) fn make_private(path: &Path) -> Result<(), LocalError> {
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(at(path))
}

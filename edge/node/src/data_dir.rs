//! The data directory: it holds password hashes, commands and the node's key, so it is its owner's alone.

use fulcrum_ring::preflight::{Check, Remedy};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Permissions of a new data directory.
const MODE: u32 = 0o700;
/// Permission bits of others than the owner.
const OTHERS: u32 = 0o077;

/// Makes the directory if it is not there. One that is there keeps the permissions its operator gave it.
pub fn prepare(path: &Path) -> Result<(), String> {
    DirBuilder::new()
        .recursive(true)
        .mode(MODE)
        .create(path)
        .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    let found =
        mode(path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    if found & OTHERS != 0 {
        tracing::warn!(
            data_dir = %path.display(),
            "others than the owner may read the data directory (mode {found:03o}); run: chmod 700 {}",
            path.display()
        );
    }
    Ok(())
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

/// Whether the directory can be written, or made, and who may read it.
pub fn checks(path: &Path) -> Vec<Check> {
    let place = path.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    let is_there = place == path;
    let shown = path.display();
    let trial = trial(place);
    let found = match (&trial, is_there) {
        (Ok(()), true) => format!("{shown} is writable"),
        (Ok(()), false) => format!("{shown} can be created"),
        (Err(error), true) => format!("{shown} is not writable: {error}"),
        (Err(error), false) => format!("{shown} cannot be created in {}: {error}", place.display()),
    };
    let mut checks = vec![Check {
        name: "data directory",
        ok: trial.is_ok(),
        required: true,
        found,
        wanted: "a directory the node can write".to_owned(),
        remedy: Remedy {
            shell: format!("install -d -m 700 -o <the node's user> {shown}"),
            systemd: "StateDirectory=fulcrum-edge, StateDirectoryMode=0700".to_owned(),
            container: format!("mount a volume the container's user owns at {shown}"),
        },
    }];
    if is_there && let Ok(found) = mode(path) {
        checks.push(Check {
            name: "data directory mode",
            ok: found & OTHERS == 0,
            required: false,
            found: format!("{found:03o}"),
            wanted: "700: it holds password hashes and commands".to_owned(),
            remedy: Remedy {
                shell: format!("chmod 700 {shown}"),
                systemd: "StateDirectoryMode=0700".to_owned(),
                container: String::new(),
            },
        });
    }
    checks
}

/// Writes a file and removes it. (Permission bits alone do not know read-only and full file systems.)
fn trial(place: &Path) -> io::Result<()> {
    let file = place.join(format!(".fulcrum-edge-check-{}", std::process::id()));
    std::fs::write(&file, b"fulcrum-edge check")?;
    std::fs::remove_file(&file)
}

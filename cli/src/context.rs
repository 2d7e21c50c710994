//! Which cloud, which certificate authority, which token: flags and environment first, then the context file that
//! `fulcrum cloud` leaves behind on its machine.
//!
//! The context file holds paths, never a secret.

use crate::arguments::Connection;
use crate::error::Failure;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What is known about the cloud side to talk to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// `https://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
    /// PEM file with the certificate authority to trust; none means the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// File with the operator token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl Context {
    /// Flags and environment, completed from the context file.
    pub fn resolve(flags: &Connection) -> Result<Context, Failure> {
        let file = file_path();
        let stored = match &file {
            Some(path) => Context::load(path)?,
            None => Context::default(),
        };
        Ok(Context::merge(flags, stored))
    }

    /// A cloud named by flag is another cloud: the file's authority and token are not for it.
    fn merge(flags: &Connection, stored: Context) -> Context {
        let stored = if flags.cloud.is_some() && flags.cloud != stored.cloud {
            Context::default()
        } else {
            stored
        };
        Context {
            cloud: flags.cloud.clone().or(stored.cloud),
            ca_file: flags.ca.clone().or(stored.ca_file),
            token_file: flags.token_file.clone().or(stored.token_file),
        }
    }

    /// The cloud's URL.
    pub fn cloud(&self) -> Result<&str, Failure> {
        self.cloud.as_deref().ok_or_else(|| {
            Failure::Context(
                "no cloud is known\n  Start one here with `fulcrum cloud`, or name one with --cloud URL (or \
                 FULCRUM_CLOUD)."
                    .to_owned(),
            )
        })
    }

    /// The operator token.
    pub fn token(&self) -> Result<String, Failure> {
        let Some(path) = &self.token_file else {
            return Err(Failure::Context(
                "no operator token is known for this cloud\n  Name its file with --token-file FILE (or \
                 FULCRUM_TOKEN_FILE). `fulcrum cloud` prints where it is."
                    .to_owned(),
            ));
        };
        let text =
            fs::read_to_string(path).map_err(Failure::file("read the operator token in", path))?;
        Ok(text.trim().to_owned())
    }

    fn load(path: &Path) -> Result<Context, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Context::default());
            }
            Err(source) => {
                return Err(Failure::File {
                    what: "read the context file",
                    path: path.into(),
                    source,
                });
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            Failure::Context(format!(
                "the context file {} is not valid: {error}\n  Delete it; `fulcrum cloud` writes it anew.",
                path.display()
            ))
        })
    }

    /// Leaves the context for other commands on this machine; returns the file.
    pub fn save(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(path) = file_path() else { return Ok(None) };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Failure::file("make the folder", folder))?;
        }
        fs::write(&path, crate::output::pretty(self) + "\n")
            .map_err(Failure::file("write", &path))?;
        Ok(Some(path))
    }
}

fn file_path() -> Option<PathBuf> {
    if let Some(path) = env::var_os("FULCRUM_CONTEXT") {
        return Some(path.into());
    }
    let base = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(base.join("fulcrum/context.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Context {
        Context {
            cloud: Some("https://a:1".to_owned()),
            ca_file: Some("/a/ca.pem".into()),
            token_file: Some("/a/token".into()),
        }
    }

    #[test]
    fn flags_win_over_the_context_file() {
        let flags = Connection { cloud: None, ca: Some("/b/ca.pem".into()), token_file: None };
        let context = Context::merge(&flags, stored());
        assert_eq!(context.ca_file, Some("/b/ca.pem".into()));
        assert_eq!(context.token_file, Some("/a/token".into()));
    }

    #[test]
    fn a_token_is_not_sent_to_another_cloud() {
        let flags =
            Connection { cloud: Some("https://b:1".to_owned()), ca: None, token_file: None };
        let context = Context::merge(&flags, stored());
        assert_eq!(context.token_file, None);
        assert!(context.token().unwrap_err().to_string().contains("--token-file"));
    }

    #[test]
    fn the_context_file_says_what_it_was_written_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.json");
        fs::write(&path, crate::output::pretty(&stored())).unwrap();
        assert_eq!(Context::load(&path).unwrap(), stored());
        fs::write(&path, "{").unwrap();
        assert!(Context::load(&path).unwrap_err().to_string().contains("Delete it"));
    }
}

//! What can go wrong for the person at the command line, and the exit code that tells it to a script.

use std::io;
use std::path::PathBuf;

/// A failed command. The text says what happened, to what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection to the cloud side.
    #[error(
        "cannot reach the cloud at {url}: {reason}\n  Is it running? Start one here with `fulcrum cloud`, or name \
         another with --cloud URL (or FULCRUM_CLOUD)."
    )]
    Unreachable {
        /// Where it should have been.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error(
        "the cloud at {url} does not prove its identity: {reason}\n  If it uses a certificate authority of its own \
         (`fulcrum cloud` does), name its certificate with --ca FILE (or FULCRUM_CA)."
    )]
    Untrusted {
        /// Who was asked.
        url: String,
        /// What the TLS library said.
        reason: String,
    },
    /// The cloud side answered with a refusal.
    #[error("{text}{}", remedy(*status))]
    Refused {
        /// HTTP status.
        status: u16,
        /// The refusal's own words.
        text: String,
    },
    /// The cloud side's answer is not what the contract says.
    #[error(
        "the answer of {url} is not understood: {reason}\n  Do this `fulcrum` and the cloud have the same version? \
         (`fulcrum --version`)"
    )]
    Answer {
        /// Who answered.
        url: String,
        /// Why it is not understood.
        reason: String,
    },
    /// Nothing says where the cloud side is, or with which token.
    #[error("{0}")]
    Context(String),
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried: "read", "write".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The machine refuses something.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The local cloud did not start or ended with an error.
    #[error("{0}")]
    Cloud(String),
    /// What was typed is not usable.
    #[error("{0}")]
    Usage(String),
    /// A command to a device did not succeed.
    #[error("{0}")]
    CommandOutcome(String),
    /// The demo could not be carried out, or its proof failed.
    #[error("{0}")]
    Demo(String),
}

impl Failure {
    /// 1 failed, 2 wrong usage, 3 cloud not reachable, 4 refused by the cloud, 5 a command or a proof did not succeed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::File { .. } | Failure::Host { .. } | Failure::Cloud(_) => 1,
            Failure::Usage(_) | Failure::Context(_) => 2,
            Failure::Unreachable { .. } | Failure::Untrusted { .. } | Failure::Answer { .. } => 3,
            Failure::Refused { .. } => 4,
            Failure::CommandOutcome(_) | Failure::Demo(_) => 5,
        }
    }

    /// A file operation's failure.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Failure {
        let path = path.into();
        move |source| Failure::File { what, path, source }
    }
}

fn remedy(status: u16) -> &'static str {
    match status {
        401 => {
            "\n  The token is missing or not the cloud's: name the operator token's file with --token-file FILE (or \
             FULCRUM_TOKEN_FILE). `fulcrum cloud` prints where it is."
        }
        409 => "\n  Use another id, or `show` the one that is there.",
        429 | 503 => "\n  Try again in a moment.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_cloud_is_told_with_its_remedy() {
        let failure = Failure::Unreachable {
            url: "https://127.0.0.1:8443".to_owned(),
            reason: "connection refused".to_owned(),
        };
        let text = failure.to_string();
        assert!(
            text.contains("https://127.0.0.1:8443") && text.contains("fulcrum cloud"),
            "{text}"
        );
        assert_eq!(failure.exit_code(), 3);
    }

    #[test]
    fn a_missing_token_is_told_with_its_remedy() {
        let failure = Failure::Refused { status: 401, text: "no token".to_owned() };
        assert!(failure.to_string().contains("--token-file"));
        assert_eq!(failure.exit_code(), 4);
    }
}

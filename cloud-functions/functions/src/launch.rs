//! What every binary does before it hands over to the Lambda runtime: configuration from the environment, state once.
//!
//! | variable | meaning |
//! |---|---|
//! | `FULCRUM_STORE_PATH` | redb file on a file system mounted into the function. One process at a time can have it open, so it suits one concurrent invocation of one function, as in tests; a store for many comes with DynamoDB. |
//! | `FULCRUM_OPERATOR_TOKEN_SHA256` | Accepted operator tokens as SHA-256 in hexadecimal, separated by commas. |
//! | `RUST_LOG` | What to log; default `info`. |

use crate::State;
use fulcrum_domain::{Cloud, Settings, secrets};
use fulcrum_stores::{OpenError, RedbStore};
use std::path::Path;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// Why a function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A variable is missing or wrong.
    #[error("the variable {0} is missing or not valid: {1}")]
    Variable(&'static str, &'static str),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// Starts logging and opens what the function works on. Call it once, before the first invocation.
pub fn start() -> Result<State, LaunchError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).without_time().init();
    state()
}

fn state() -> Result<State, LaunchError> {
    let path = std::env::var("FULCRUM_STORE_PATH").map_err(|_| {
        LaunchError::Variable("FULCRUM_STORE_PATH", "give the path of the store's file")
    })?;
    let tokens = std::env::var("FULCRUM_OPERATOR_TOKEN_SHA256").unwrap_or_default();
    let settings =
        Settings { operator_token_sha256: operator_tokens(&tokens)?, ..Settings::default() };
    let store = RedbStore::open(Path::new(&path), &secrets::new_id())?;
    Ok(State::new(Cloud::new(Arc::new(store), settings)))
}

fn operator_tokens(text: &str) -> Result<Vec<[u8; 32]>, LaunchError> {
    let wrong = LaunchError::Variable(
        "FULCRUM_OPERATOR_TOKEN_SHA256",
        "give 64 hexadecimal digits per token",
    );
    let parse = |token: &str| {
        let digits: Option<Vec<u8>> =
            token.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
        let digits = digits?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] * 16 + pair[1]).collect();
        <[u8; 32]>::try_from(bytes).ok().filter(|_| digits.len() == 64)
    };
    let tokens = text.split(',').map(str::trim).filter(|token| !token.is_empty());
    tokens.map(parse).collect::<Option<_>>().ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_tokens_are_whole_hashes_or_nothing() {
        let one = "00ff".repeat(16);
        assert_eq!(operator_tokens(&format!("{one}, {one}")).unwrap().len(), 2);
        assert!(operator_tokens("").unwrap().is_empty());
        assert!(operator_tokens("00ff").is_err());
        assert!(operator_tokens(&format!("{one}0")).is_err());
        assert!(operator_tokens(&"zz".repeat(32)).is_err());
    }
}

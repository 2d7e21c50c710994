//! Enrolment: the node makes its key and shows the one-time token once.

use crate::client::{Call, Client};
use crate::config::UplinkConfig;
use crate::error::UplinkError;
use crate::key::Key;
use crate::link::refusal_text;
use fulcrum_contract::enrolment::{EnrolRequest, Enrolled};
use fulcrum_contract::paths;
use http::Method;
use std::time::Duration;
use tokio::task::LocalSet;

/// Attempts when the cloud does not answer. The token is not lost by repeating it with the same key.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Makes the key where there is none, and exchanges `token` for the cloud's trust in it. Runs on any tokio runtime.
///
/// # Errors
/// The key cannot be written, the cloud cannot be reached, or it refuses the token.
pub async fn enrol(config: &UplinkConfig, token: &str) -> Result<Enrolled, UplinkError> {
    config.validate()?;
    let client = Client::new(&config.cloud, config.ca_file.as_deref(), config.connect_timeout)?;
    let key = Key::load_or_create(&config.key_file)?;
    let request = EnrolRequest {
        edge: config.edge.clone(),
        token: token.to_owned(),
        public_key: key.public_pem()?,
    };
    let body = serde_json::to_vec(&request).expect("a request of texts is always JSON");
    let call = Call {
        method: Method::POST,
        path: paths::ENROL.to_owned(),
        content_type: "application/json",
        body: body.into(),
        timeout: config.request_timeout,
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    LocalSet::new().run_until(exchange(config, &client, &call)).await
}

/// [`enrol`] for callers without a runtime.
///
/// # Errors
/// As [`enrol`], or no runtime can be made.
pub fn enrol_blocking(config: &UplinkConfig, token: &str) -> Result<Enrolled, UplinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(UplinkError::Runtime)?;
    runtime.block_on(enrol(config, token))
}

async fn exchange(
    config: &UplinkConfig,
    client: &Client,
    call: &Call,
) -> Result<Enrolled, UplinkError> {
    let unreachable =
        |what: String| UplinkError::Unreachable { cloud: config.cloud.to_string(), what };
    let mut attempt = 1;
    let answer = loop {
        match client.exchange(call, None).await {
            Ok(answer) if answer.status.is_server_error() && attempt < ATTEMPTS => {}
            Ok(answer) => break answer,
            Err(error) if attempt >= ATTEMPTS => return Err(unreachable(error.to_string())),
            Err(_) => {}
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    };
    if !answer.status.is_success() {
        let what = refusal_text(&answer.body);
        return Err(UplinkError::Refused { status: answer.status.as_u16(), what });
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| unreachable(format!("its answer cannot be read ({error})")))
}

//! The Lambda function `credentials`; see [`fulcrum_functions::credentials`].

use fulcrum_functions::{credentials, launch};
use lambda_http::{Error, Request, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let state = &launch::start()?;
    lambda_http::run(service_fn(|request: Request| credentials::handle(state, request))).await
}

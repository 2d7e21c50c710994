//! The Lambda function `commands`; see [`fulcrum_functions::commands`].

use fulcrum_functions::{commands, launch};
use lambda_http::{Error, Request, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let state = &launch::start()?;
    lambda_http::run(service_fn(|request: Request| commands::handle(state, request))).await
}

//! The Lambda function `sync`; see [`fulcrum_functions::sync`].

use fulcrum_functions::{launch, sync};
use lambda_http::{Error, Request, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let state = &launch::start()?;
    lambda_http::run(service_fn(|request: Request| sync::handle(state, request))).await
}

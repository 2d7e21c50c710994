//! The Lambda function `streams`; see [`fulcrum_functions::streams`].

use fulcrum_functions::{launch, streams};
use lambda_http::{Error, Request, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let state = &launch::start()?;
    lambda_http::run(service_fn(|request: Request| streams::handle(state, request))).await
}

//! The Lambda function `registry`; see [`fulcrum_functions::registry`].

use fulcrum_functions::{launch, registry};
use lambda_http::{Error, Request, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let state = &launch::start()?;
    lambda_http::run(service_fn(|request: Request| registry::handle(state, request))).await
}

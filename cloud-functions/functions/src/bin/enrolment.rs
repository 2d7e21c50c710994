//! The Lambda function `enrolment`; see [`fulcrum_functions::enrolment`].

use fulcrum_functions::{enrolment, launch};
use lambda_http::{Error, Request, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let state = &launch::start()?;
    lambda_http::run(service_fn(|request: Request| enrolment::handle(state, request))).await
}

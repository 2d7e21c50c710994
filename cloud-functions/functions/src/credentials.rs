//! Credentials of devices (Hono's Device Registry Management API). For operators.

use crate::State;
use crate::call::{Call, parse};
use crate::reply::{Answer, Outcome, Refusal, answer, done, json, with_etag};
use http::{Method, StatusCode};
use lambda_http::Request;

/// Answers one request.
pub async fn handle(state: &State, request: Request) -> Answer {
    answer(route(state, request).await)
}

async fn route(state: &State, request: Request) -> Outcome {
    let call = Call::new(request)?;
    call.operator(state).await?;
    let ["credentials", tenant, device] = call.path()[..] else {
        return Err(Refusal::NoSuchPath);
    };
    let (tenant, device) = (parse(tenant)?, parse(device)?);
    match call.method {
        Method::GET => {
            let (credentials, etag) = state.cloud.credentials(&tenant, &device).await?;
            Ok(with_etag(json(StatusCode::OK, &credentials), etag))
        }
        Method::PUT => {
            let (set, if_match) = (call.required_json()?, call.if_match());
            let etag = state.cloud.update_credentials(&tenant, &device, set, &if_match).await?;
            Ok(with_etag(done(), etag))
        }
        _ => Err(Refusal::Method("GET, PUT")),
    }
}

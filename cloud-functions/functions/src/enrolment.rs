//! Edge nodes: made, changed and revoked by operators; enrolled by themselves with a one-time token.

use crate::State;
use crate::call::{Call, parse};
use crate::reply::{Answer, Outcome, Refusal, answer, done, json, list, with_location};
use fulcrum_contract::EdgeId;
use fulcrum_contract::enrolment::{EdgeRequest, EnrolRequest};
use http::{Method, StatusCode};
use lambda_http::Request;

/// Answers one request.
pub async fn handle(state: &State, request: Request) -> Answer {
    answer(route(state, request).await)
}

async fn route(state: &State, request: Request) -> Outcome {
    let call = Call::new(request)?;
    if call.path()[..] == ["enrol"] {
        return enrol(state, &call).await;
    }
    call.operator(state).await?;
    match call.path()[..] {
        ["edges"] => match call.method {
            Method::GET => list(state.cloud.edges(call.page()?).await?),
            _ => Err(Refusal::Method("GET")),
        },
        ["edges", edge] => one_edge(state, &call, parse(edge)?).await,
        ["edges", edge, "token"] => match call.method {
            Method::POST => {
                let created = state.cloud.renew_edge_token(&parse(edge)?, state.now_ms()).await?;
                Ok(json(StatusCode::CREATED, &created))
            }
            _ => Err(Refusal::Method("POST")),
        },
        _ => Err(Refusal::NoSuchPath),
    }
}

/// No authentication but the token in the body.
async fn enrol(state: &State, call: &Call) -> Outcome {
    if call.method != Method::POST {
        return Err(Refusal::Method("POST"));
    }
    let request: EnrolRequest = call.required_json()?;
    Ok(json(StatusCode::OK, &state.cloud.enrol(&request, state.now_ms()).await?))
}

async fn one_edge(state: &State, call: &Call, id: EdgeId) -> Outcome {
    let (cloud, now_ms) = (&state.cloud, state.now_ms());
    match call.method {
        Method::POST => {
            let EdgeRequest { tenants } = call.required_json()?;
            let created = cloud.create_edge(&id, tenants, now_ms).await?;
            Ok(with_location(json(StatusCode::CREATED, &created), &format!("/v1/edges/{id}")))
        }
        Method::GET => Ok(json(StatusCode::OK, &cloud.edge(&id).await?)),
        Method::PUT => {
            let EdgeRequest { tenants } = call.required_json()?;
            cloud.update_edge(&id, tenants, now_ms).await?;
            Ok(done())
        }
        Method::DELETE => {
            cloud.delete_edge(&id, now_ms).await?;
            Ok(done())
        }
        _ => Err(Refusal::Method("GET, POST, PUT, DELETE")),
    }
}

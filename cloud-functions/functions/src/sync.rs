//! What an edge node and the cloud side tell each other. For the edge node that the path names.

use crate::State;
use crate::call::Call;
use crate::reply::{Answer, Outcome, Refusal, answer, done, json};
use fulcrum_contract::sync::BATCH_CONTENT_TYPE;
use fulcrum_domain::changes::ChangesRequest;
use fulcrum_domain::sync::Ingested;
use http::{Method, StatusCode};
use lambda_http::Request;

/// Answers one request.
pub async fn handle(state: &State, request: Request) -> Answer {
    answer(route(state, request).await)
}

async fn route(state: &State, request: Request) -> Outcome {
    let call = Call::new(request)?;
    let ["sync", edge, what] = call.path()[..] else {
        return Err(Refusal::NoSuchPath);
    };
    let edge = call.edge(state, edge).await?;
    let (cloud, now_ms) = (&state.cloud, state.now_ms());
    match (what, &call.method) {
        ("marks", &Method::GET) => Ok(json(StatusCode::OK, &cloud.marks(&edge).await?)),
        ("batches", &Method::POST) => {
            let body = call.body_of_type(BATCH_CONTENT_TYPE)?;
            Ok(match cloud.ingest(&edge, body, now_ms).await? {
                Ingested::Stored(answer) => json(StatusCode::OK, &answer),
                Ingested::Gap(answer) => json(StatusCode::CONFLICT, &answer),
            })
        }
        ("changes", &Method::GET) => {
            let request = ChangesRequest {
                feed: call.query("feed").map(str::to_owned),
                after: call.number("after")?.unwrap_or(0),
                wait_s: call.number("wait")?.unwrap_or(0),
            };
            Ok(json(StatusCode::OK, &cloud.changes(edge, &request).await?))
        }
        ("presence", &Method::POST) => {
            cloud.presence(&edge, &call.required_json()?, now_ms).await?;
            Ok(done())
        }
        ("marks" | "changes", _) => Err(Refusal::Method("GET")),
        ("batches" | "presence", _) => Err(Refusal::Method("POST")),
        _ => Err(Refusal::NoSuchPath),
    }
}

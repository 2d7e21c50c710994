//! A tenant's stream. For operators and for the tenant's applications that may consume.

use crate::State;
use crate::call::{Call, parse};
use crate::reply::{Answer, Outcome, Refusal, answer, done, json};
use fulcrum_contract::TenantId;
use fulcrum_contract::registry::Permission;
use fulcrum_domain::Error;
use fulcrum_domain::streams::{PAGE_RECORDS_MAX, ReadRequest, RecordClasses, Start};
use http::{Method, StatusCode};
use lambda_http::Request;

/// Records of a page where no number is asked for.
const PAGE_RECORDS: usize = 100;

/// Answers one request.
pub async fn handle(state: &State, request: Request) -> Answer {
    answer(route(state, request).await)
}

async fn route(state: &State, request: Request) -> Outcome {
    let call = Call::new(request)?;
    let path = call.path();
    let ["streams", tenant, what @ ..] = &path[..] else {
        return Err(Refusal::NoSuchPath);
    };
    let tenant: TenantId = parse(tenant)?;
    call.principal(state).await?.require(&tenant, Permission::Consume)?;
    let cloud = &state.cloud;
    match (what, &call.method) {
        (["records"], &Method::GET) => {
            let page = cloud.records(&tenant, &read_request(&call)?, state.now_ms()).await?;
            Ok(json(StatusCode::OK, &page))
        }
        (["groups", group], &Method::GET) => {
            Ok(json(StatusCode::OK, &cloud.group(&tenant, group).await?))
        }
        (["groups", group], &Method::DELETE) => {
            cloud.delete_group(&tenant, group).await?;
            Ok(done())
        }
        (["groups", group, "commit"], &Method::POST) => {
            cloud.commit(&tenant, group, &call.required_json()?).await?;
            Ok(done())
        }
        (["records"], _) => Err(Refusal::Method("GET")),
        (["groups", _], _) => Err(Refusal::Method("GET, DELETE")),
        (["groups", _, "commit"], _) => Err(Refusal::Method("POST")),
        _ => Err(Refusal::NoSuchPath),
    }
}

fn read_request(call: &Call) -> Result<ReadRequest, Refusal> {
    let invalid = |text: String| Refusal::Rule(Error::Invalid(text));
    let group = call.query("group").ok_or_else(|| invalid("'group' is missing".to_owned()))?;
    let max = call.number("max")?.unwrap_or(PAGE_RECORDS);
    if !(1..=PAGE_RECORDS_MAX).contains(&max) {
        return Err(invalid(format!("'max' must be 1 to {PAGE_RECORDS_MAX}")));
    }
    let start = match call.query("from") {
        None | Some("earliest") => Start::Earliest,
        Some("latest") => Start::Latest,
        Some(_) => return Err(invalid("'from' must be earliest or latest".to_owned())),
    };
    let classes = call.query("class").map_or(Ok(RecordClasses::ALL), RecordClasses::parse)?;
    let wait_s = call.number("wait")?.unwrap_or(0);
    Ok(ReadRequest { group: group.to_owned(), max, wait_s, classes, start })
}

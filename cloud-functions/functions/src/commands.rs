//! Commands to devices. For operators and for the tenant's applications that may command.

use crate::State;
use crate::call::{Call, parse};
use crate::reply::{Answer, Outcome, Refusal, answer, json, list, with_location};
use fulcrum_contract::registry::Permission;
use fulcrum_contract::{DeviceId, TenantId};
use http::{Method, StatusCode};
use lambda_http::Request;

/// Answers one request.
pub async fn handle(state: &State, request: Request) -> Answer {
    answer(route(state, request).await)
}

async fn route(state: &State, request: Request) -> Outcome {
    let call = Call::new(request)?;
    let path = call.path();
    let ["commands", tenant, device, what @ ..] = &path[..] else {
        return Err(Refusal::NoSuchPath);
    };
    let (tenant, device): (TenantId, DeviceId) = (parse(tenant)?, parse(device)?);
    call.principal(state).await?.require(&tenant, Permission::Command)?;
    let (cloud, now_ms) = (&state.cloud, state.now_ms());
    match (what, &call.method) {
        ([], &Method::POST) => {
            let view = cloud.send_command(&tenant, &device, call.required_json()?, now_ms).await?;
            let location = format!("/v1/commands/{tenant}/{device}/{}", view.id);
            Ok(with_location(json(StatusCode::ACCEPTED, &view), &location))
        }
        ([], &Method::GET) => list(cloud.commands(&tenant, &device, call.page()?).await?),
        ([command], &Method::GET) => {
            let (command, wait_s) = (parse(command)?, call.number("wait")?.unwrap_or(0));
            let view = cloud.command(&tenant, &device, &command, wait_s, now_ms).await?;
            Ok(json(StatusCode::OK, &view))
        }
        ([], _) => Err(Refusal::Method("GET, POST")),
        ([_], _) => Err(Refusal::Method("GET")),
        _ => Err(Refusal::NoSuchPath),
    }
}

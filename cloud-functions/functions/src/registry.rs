//! Tenants, devices (Hono's Device Registry Management API) and applications. For operators.

use crate::State;
use crate::call::{Call, parse};
use crate::reply::{
    Answer, Outcome, Refusal, answer, done, json, named_list, with_etag, with_location,
};
use fulcrum_contract::registry::{Application, Created, Device, Tenant};
use fulcrum_contract::{ApplicationId, DeviceId, TenantId};
use http::{Method, StatusCode};
use lambda_http::Request;

/// Answers one request.
pub async fn handle(state: &State, request: Request) -> Answer {
    answer(route(state, request).await)
}

async fn route(state: &State, request: Request) -> Outcome {
    let call = Call::new(request)?;
    call.operator(state).await?;
    match call.path()[..] {
        ["tenants"] => tenants(state, &call).await,
        ["tenants", tenant] => one_tenant(state, &call, parse(tenant)?).await,
        ["devices", tenant] => devices(state, &call, parse(tenant)?).await,
        ["devices", tenant, device] => {
            one_device(state, &call, parse(tenant)?, parse(device)?).await
        }
        ["applications", tenant] => applications(state, &call, parse(tenant)?).await,
        ["applications", tenant, application] => {
            one_application(state, &call, parse(tenant)?, parse(application)?).await
        }
        _ => Err(Refusal::NoSuchPath),
    }
}

async fn tenants(state: &State, call: &Call) -> Outcome {
    match call.method {
        Method::GET => named_list(state.cloud.tenants(call.page()?).await?),
        Method::POST => create_tenant(state, call, None).await,
        _ => Err(Refusal::Method("GET, POST")),
    }
}

async fn one_tenant(state: &State, call: &Call, id: TenantId) -> Outcome {
    let cloud = &state.cloud;
    match call.method {
        Method::POST => create_tenant(state, call, Some(id)).await,
        Method::GET => {
            let (document, etag) = cloud.tenant(&id).await?;
            Ok(with_etag(json(StatusCode::OK, &document), etag))
        }
        Method::PUT => {
            let document = call.required_json()?;
            Ok(with_etag(done(), cloud.update_tenant(&id, document, &call.if_match()).await?))
        }
        Method::DELETE => {
            cloud.delete_tenant(&id, &call.if_match()).await?;
            Ok(done())
        }
        _ => Err(Refusal::Method("GET, POST, PUT, DELETE")),
    }
}

async fn create_tenant(state: &State, call: &Call, id: Option<TenantId>) -> Outcome {
    let document = call.json::<Tenant>()?.unwrap_or_default();
    let (id, etag) = state.cloud.create_tenant(id, document).await?;
    let location = format!("/v1/tenants/{id}");
    let created = json(StatusCode::CREATED, &Created { id: id.into() });
    Ok(with_location(with_etag(created, etag), &location))
}

async fn devices(state: &State, call: &Call, tenant: TenantId) -> Outcome {
    match call.method {
        Method::GET => named_list(state.cloud.devices(&tenant, call.page()?).await?),
        Method::POST => create_device(state, call, tenant, None).await,
        _ => Err(Refusal::Method("GET, POST")),
    }
}

async fn one_device(state: &State, call: &Call, tenant: TenantId, id: DeviceId) -> Outcome {
    let cloud = &state.cloud;
    match call.method {
        Method::POST => create_device(state, call, tenant, Some(id)).await,
        Method::GET => {
            let (document, etag) = cloud.device(&tenant, &id).await?;
            Ok(with_etag(json(StatusCode::OK, &document), etag))
        }
        Method::PUT => {
            let (document, if_match) = (call.required_json()?, call.if_match());
            let now_ms = state.now_ms();
            let etag = cloud.update_device(&tenant, &id, document, &if_match, now_ms).await?;
            Ok(with_etag(done(), etag))
        }
        Method::DELETE => {
            cloud.delete_device(&tenant, &id, &call.if_match(), state.now_ms()).await?;
            Ok(done())
        }
        _ => Err(Refusal::Method("GET, POST, PUT, DELETE")),
    }
}

async fn create_device(
    state: &State,
    call: &Call,
    tenant: TenantId,
    id: Option<DeviceId>,
) -> Outcome {
    let document = call.json::<Device>()?.unwrap_or_default();
    let (id, etag) = state.cloud.create_device(&tenant, id, document, state.now_ms()).await?;
    let location = format!("/v1/devices/{tenant}/{id}");
    let created = json(StatusCode::CREATED, &Created { id: id.into() });
    Ok(with_location(with_etag(created, etag), &location))
}

async fn applications(state: &State, call: &Call, tenant: TenantId) -> Outcome {
    match call.method {
        Method::GET => named_list(state.cloud.applications(&tenant, call.page()?).await?),
        _ => Err(Refusal::Method("GET")),
    }
}

async fn one_application(
    state: &State,
    call: &Call,
    tenant: TenantId,
    id: ApplicationId,
) -> Outcome {
    let cloud = &state.cloud;
    match call.method {
        Method::POST => {
            let document = call.json()?.unwrap_or_else(|| Application {
                enabled: true,
                permissions: Application::all_permissions(),
                password_sha256: None,
            });
            let (created, etag) = cloud.create_application(&tenant, &id, document).await?;
            let location = format!("/v1/applications/{tenant}/{id}");
            let created = json(StatusCode::CREATED, &created);
            Ok(with_location(with_etag(created, etag), &location))
        }
        Method::GET => {
            let (document, etag) = cloud.application(&tenant, &id).await?;
            Ok(with_etag(json(StatusCode::OK, &document), etag))
        }
        Method::DELETE => {
            cloud.delete_application(&tenant, &id, &call.if_match()).await?;
            Ok(done())
        }
        _ => Err(Refusal::Method("GET, POST, DELETE")),
    }
}

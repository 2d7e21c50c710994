//! Paths of the device API.

use fulcrum_frame::Class;
use fulcrum_http::{Method, percent_decode};

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// Telemetry or an event.
    Message { class: Class, address: Address },
    /// The answer to a command.
    Response { address: Address, request_id: String },
}

/// Tenant and device of a path; empty where the path leaves them out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Address {
    pub tenant: String,
    pub device: String,
}

/// Finds the route of a request; `None` is a 404.
pub(super) fn find(method: Method, path: &str) -> Option<Route> {
    let segments: Vec<String> = path
        .strip_prefix('/')?
        .split('/')
        .take(8)
        .map(|segment| percent_decode(segment).ok().map(|text| text.into_owned()))
        .collect::<Option<_>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let message = |class, address| Some(Route::Message { class, address });
    let response = |address, request_id: &str| {
        let request_id = request_id.to_owned();
        (!request_id.is_empty()).then_some(Route::Response { address, request_id })
    };
    match (method, &segments[..]) {
        (Method::Post, ["telemetry"]) => message(Class::Telemetry, Address::default()),
        (Method::Post, ["event"]) => message(Class::Event, Address::default()),
        (Method::Put, ["telemetry", tenant, device]) => {
            message(Class::Telemetry, Address::named(tenant, device)?)
        }
        (Method::Put, ["event", tenant, device]) => {
            message(Class::Event, Address::named(tenant, device)?)
        }
        (Method::Post, ["command", "res", request_id]) => response(Address::default(), request_id),
        (Method::Put, ["command", "res", tenant, device, request_id]) => {
            response(Address::named(tenant, device)?, request_id)
        }
        _ => None,
    }
}

impl Address {
    fn named(tenant: &str, device: &str) -> Option<Address> {
        let address = Address { tenant: tenant.to_owned(), device: device.to_owned() };
        (!device.is_empty()).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_device_api_are_found() {
        let named = |tenant: &str, device: &str| Address::named(tenant, device).unwrap();
        let message = |class, address| Some(Route::Message { class, address });
        assert_eq!(find(Method::Post, "/telemetry"), message(Class::Telemetry, Address::default()));
        assert_eq!(find(Method::Put, "/event/acme/d1"), message(Class::Event, named("acme", "d1")));
        assert_eq!(
            find(Method::Put, "/telemetry//d%3A1"),
            message(Class::Telemetry, named("", "d:1"))
        );
        assert!(matches!(find(Method::Post, "/command/res/003abc"), Some(Route::Response { .. })));
        assert!(matches!(
            find(Method::Put, "/command/res//d1/003abc"),
            Some(Route::Response { .. })
        ));
    }

    #[test]
    fn everything_else_is_not_found() {
        let others = [
            (Method::Get, "/telemetry"),
            (Method::Put, "/telemetry"),
            (Method::Post, "/telemetry/acme/d1"),
            (Method::Put, "/telemetry/acme"),
            (Method::Put, "/telemetry/acme/"),
            (Method::Post, "/t"),
            (Method::Post, "/"),
            (Method::Post, "*"),
            (Method::Post, "/command/res/"),
            (Method::Post, "/%ff"),
        ];
        for (method, path) in others {
            assert_eq!(find(method, path), None, "{path}");
        }
    }
}

//! Each binary answers API Gateway events under the Lambda Runtime API, as AWS calls it.
#![allow(clippy::unwrap_used, reason = "a test's own tools fail the test")]

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const TOKEN: &str = "an-operator-token-for-this-test-alone";

/// The Runtime API of one function: hands out events one by one, collects the responses.
struct Runtime {
    function: Child,
    events: mpsc::Sender<Value>,
    responses: mpsc::Receiver<Value>,
}

impl Runtime {
    fn start(binary: &str, store: &Path) -> Runtime {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (events, waiting) = mpsc::channel::<Value>();
        let (answered, responses) = mpsc::channel();
        std::thread::spawn(move || {
            // The function's client may use a new connection for any of its requests.
            let waiting = Arc::new(Mutex::new(waiting));
            for stream in listener.incoming() {
                let (waiting, answered) = (waiting.clone(), answered.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &waiting, &answered));
            }
        });
        let hash = fulcrum_domain::secrets::sha256(TOKEN.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let function = Command::new(binary)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "function")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("FULCRUM_STORE_PATH", store)
            .env("FULCRUM_OPERATOR_TOKEN_SHA256", hash)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Runtime { function, events, responses }
    }

    /// Invokes the function with one API Gateway (payload version 2.0) event.
    fn invoke(&self, method: &str, path: &str, token: &str, body: Option<&str>) -> (u64, Value) {
        let mut headers =
            json!({ "host": "api.example", "authorization": format!("Bearer {token}") });
        if body.is_some() {
            headers["content-type"] = json!("application/json");
        }
        let (raw_path, query) = path.split_once('?').unwrap_or((path, ""));
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": raw_path, "rawQueryString": query,
            "headers": headers, "isBase64Encoded": false, "body": body,
            "requestContext": {
                "accountId": "1", "apiId": "a", "domainName": "api.example", "domainPrefix": "a",
                "requestId": "r", "routeKey": "$default", "stage": "$default", "timeEpoch": 0,
                "time": "01/Jan/2026:00:00:00 +0000",
                "http": { "method": method, "path": raw_path, "protocol": "HTTP/1.1",
                          "sourceIp": "192.0.2.1", "userAgent": "test" }
            }
        });
        self.events.send(event).unwrap();
        let response = self.responses.recv_timeout(Duration::from_secs(30)).unwrap();
        let body = response["body"].as_str().unwrap_or_default();
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        (response["statusCode"].as_u64().unwrap(), body)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // It may have ended on its own; either way it is gone afterwards.
        let _ = self.function.kill();
        let _ = self.function.wait();
    }
}

fn serve(
    stream: TcpStream,
    waiting: &Mutex<mpsc::Receiver<Value>>,
    answered: &mpsc::Sender<Value>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        let mut chunked = false;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            chunked |= line == "transfer-encoding: chunked";
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let body =
            if chunked { read_chunks(&mut reader) } else { read_exactly(&mut reader, length) };
        if first.contains("/invocation/next") {
            let Ok(event) = waiting.lock().unwrap().recv() else { return };
            let event = event.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: r1\r\nLambda-Runtime-Deadline-Ms: 99999999999999\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:x:1:function:f\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n",
                event.len()
            );
            stream.write_all(format!("{head}{event}").as_bytes()).unwrap();
        } else {
            assert!(first.contains("/invocation/r1/response"), "{first}");
            stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").unwrap();
            answered.send(serde_json::from_slice(&body).unwrap()).unwrap();
        }
    }
}

fn read_exactly(reader: &mut BufReader<TcpStream>, length: usize) -> Vec<u8> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    body
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        body.extend(read_exactly(reader, size));
        read_exactly(reader, 2);
        if size == 0 {
            return body;
        }
    }
}

#[test]
fn the_registry_answers_invocation_after_invocation_from_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::start(env!("CARGO_BIN_EXE_registry"), &dir.path().join("s.redb"));
    let document = r#"{"ext":{"site":"north"}}"#;
    let (status, body) = runtime.invoke("POST", "/v1/tenants/acme", TOKEN, Some(document));
    assert_eq!((status, &body["id"]), (201, &json!("acme")));
    let (status, body) = runtime.invoke("GET", "/v1/tenants/acme", TOKEN, None);
    assert_eq!((status, &body["ext"]["site"]), (200, &json!("north")));
    let (status, body) = runtime.invoke("GET", "/v1/tenants?pageSize=0", TOKEN, None);
    assert_eq!((status, body), (200, json!({ "total": 1, "result": [] })));
    let (status, body) = runtime.invoke("GET", "/v1/tenants/acme", "wrong", None);
    assert_eq!(status, 401);
    assert!(body["error"].is_string());
}

#[test]
fn every_other_function_answers_its_own_paths() {
    for (binary, path, wanted) in [
        (env!("CARGO_BIN_EXE_credentials"), "/v1/credentials/acme/pump", 404),
        (env!("CARGO_BIN_EXE_enrolment"), "/v1/edges/site", 404),
        (env!("CARGO_BIN_EXE_sync"), "/v1/sync/site/marks", 401),
        (env!("CARGO_BIN_EXE_streams"), "/v1/streams/acme/records?group=g", 404),
        (env!("CARGO_BIN_EXE_commands"), "/v1/commands/acme/pump/c1", 404),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::start(binary, &dir.path().join("s.redb"));
        let (status, body) = runtime.invoke("GET", path, TOKEN, None);
        assert_eq!(status, wanted, "{path}");
        assert!(
            body["error"].as_str().is_some_and(|error| error != "there is nothing at this path")
        );
    }
}

#[test]
fn a_function_without_a_store_says_which_variable_is_missing() {
    let output = Command::new(env!("CARGO_BIN_EXE_registry")).env_clear().output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("FULCRUM_STORE_PATH"));
}

//! The node as its operator sees it: what it refuses and says so, and what it survives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use harness::{Device, Node, Place, get};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_bad_configuration_is_named_with_file_line_and_expectation() {
    let place = Place::new([0; 3]);
    place.add_config("[limits2]\nconnections = 5\n");
    let text = place.refusal();
    assert!(text.contains("edge.toml:15: ") && text.contains("`limits2`"), "{text}");
    place.write_config("[node]\ndata_dir = 7\n");
    let text = place.refusal();
    assert!(text.contains("edge.toml:2: ") && text.contains("string"), "{text}");
    std::fs::remove_file(place.config()).unwrap();
    let text = place.refusal();
    assert!(text.contains("edge.toml") && text.contains("--config"), "{text}");
}

#[test]
fn a_second_node_on_the_same_address_is_refused_and_leaves_nothing_behind() {
    let place = Place::new([0; 3]);
    let node = Node::start(&place);
    for ports in [[node.mqtt.port(), 0, 0], [0, node.http.port(), 0], [0, 0, node.admin.port()]] {
        let second = Place::new(ports);
        let text = second.refusal();
        assert!(text.contains("cannot listen on") && text.contains("another node"), "{text}");
        assert!(!second.data_dir().exists());
    }
    // Nor does one with the same data: its journal is taken.
    let text = place.refusal();
    assert!(text.contains("data/journal"), "{text}");
    node.terminate();
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_node_without_its_key_or_trust_does_not_start() {
    let place = Place::new([0; 3]);
    place.add_config(
        "[uplink]\ncloud = \"https://127.0.0.1:9\"\nedge = \"e1\"\nkey_file = \"nokey.pem\"\nca_file = \"noca.pem\"\n",
    );
    for text in [place.refusal(), String::from_utf8(place.execute(&["check"]).stdout).unwrap()] {
        for part in ["nokey.pem", "fulcrum edge enrol", "noca.pem"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    assert!(!place.data_dir().exists());
}

#[test]
fn check_says_whether_the_data_directory_is_fit() {
    let place = Place::new([0; 3]);
    let report = || String::from_utf8(place.execute(&["check"]).stdout).unwrap();
    assert!(report().contains("can be created"), "{}", report());
    std::fs::create_dir(place.data_dir()).unwrap();
    std::fs::set_permissions(place.data_dir(), PermissionsExt::from_mode(0o755)).unwrap();
    assert!(report().contains("chmod 700"), "{}", report());
    std::fs::remove_dir(place.data_dir()).unwrap();
    std::fs::write(place.data_dir(), "a file").unwrap();
    let output = place.execute(&["check"]);
    assert!(!output.status.success() && report().contains("is not writable"), "{}", report());
}

#[test]
fn the_data_directory_is_its_owners_alone() {
    let place = Place::new([0; 3]);
    place.seed();
    let mode = std::fs::metadata(place.data_dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn acknowledged_events_survive_a_kill_and_the_node_goes_on() {
    let place = Place::new([0; 3]);
    place.seed();
    let mut acknowledged = 0;
    for round in 0..3 {
        let node = Node::start(&place);
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let devices: Vec<_> = (0..4)
            .map(|device| {
                let (address, accepted) = (node.http, accepted.clone());
                std::thread::spawn(move || {
                    let mut connection = Device::connect(address);
                    for number in 0.. {
                        let body = format!("{round}/{device}/{number}");
                        match connection.event(&body) {
                            Some(202) => accepted.lock().unwrap().push(body),
                            Some(other) => panic!("{other}"),
                            None => return,
                        }
                    }
                })
            })
            .collect();
        while accepted.lock().unwrap().len() < 40 {
            std::thread::sleep(Duration::from_millis(5));
        }
        node.kill();
        for device in devices {
            device.join().unwrap();
        }
        let stored = place.stored();
        let accepted = accepted.lock().unwrap();
        let lost: Vec<_> = accepted.iter().filter(|body| !stored.contains(*body)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        acknowledged += accepted.len();
        assert!(stored.len() >= acknowledged);
    }
    let node = Node::start(&place);
    assert_eq!(Device::connect(node.http).event("after"), Some(202));
    node.terminate();
    assert_eq!(node.wait().code(), Some(0));
    assert!(place.stored().contains("after"));
}

#[test]
fn garbage_on_every_port_ends_nothing() {
    let place = Place::new([0; 3]);
    place.seed();
    let node = Node::start(&place);
    // Bytes that are no protocol's, and beginnings that are.
    let mut noise = 0x9e37_79b9_u32;
    let mut random = || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise.to_le_bytes()[1]
    };
    for address in [node.mqtt, node.http, node.admin] {
        for start in
            [&b""[..], b"\x10", b"\x10\xff\xff\xff\x7f", b"POST /event HTTP/1.1\r\n", b"\0"]
        {
            for bytes in [1, 100, 40_000] {
                let mut garbage = start.to_vec();
                garbage.extend((0..bytes).map(|_| random()));
                let mut socket = TcpStream::connect(address).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                // It may be refused before it is all out.
                let _ = socket.write_all(&garbage);
                let _ = socket.read(&mut [0; 1024]);
            }
        }
    }
    assert_eq!(Device::connect(node.http).event("x"), Some(202));
    assert_eq!(get(node.admin, "/liveness"), 200);
    assert_eq!(get(node.admin, "/readiness"), 200);
    node.terminate();
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_node_that_is_told_to_stop_answers_first() {
    let place = Place::new([0; 3]);
    place.seed();
    let node = Node::start(&place);
    let mut idle = TcpStream::connect(node.mqtt).unwrap();
    // The beginning of a CONNECT: a connection on which nothing was said is the kernel's for its first second.
    idle.write_all(&[0x10]).unwrap();
    let mut device = Device::connect(node.http);
    assert_eq!(device.event("kept"), Some(202));
    let port = node.http;
    node.terminate();
    assert_eq!(node.wait().code(), Some(0));
    assert_eq!(idle.read(&mut [0; 16]).unwrap_or(0), 0);
    assert_eq!(device.event("late"), None);
    assert!(place.stored().contains("kept"));
    TcpListener::bind(port).expect("the address is free again");
}

//! Running out of descriptors. Alone in its file, because the limit belongs to the process.

#![allow(clippy::unwrap_used)] // Test code outside test functions.

mod harness;

use std::io::{Read, Write};
use std::time::Duration;

use fulcrum_ring::RingConfig;
use harness::{Script, eventually, start};
use socket2::{Domain, Socket, Type};

/// Sets the soft limit of open files by command, so that tests need no unsafe code.
fn limit_files(count: u64) {
    let pid = std::process::id().to_string();
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &pid, &format!("--nofile={count}:")])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "util-linux's prlimit is needed");
}

#[test]
fn a_shortage_of_descriptors_rests_the_accept_and_passes() {
    // The clients' sockets exist before the limit, so that only the ring's side lacks descriptors; and the limit before the ring,
    // because the kernel reads it when an accept is armed.
    let mut sockets: Vec<_> =
        (0..40).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    limit_files(used + 20);
    let ring = start(RingConfig::default(), Script::echo);
    let connect = |socket: Socket| {
        socket.connect(&ring.addr.into()).unwrap();
        std::net::TcpStream::from(socket)
    };
    let mut first = connect(sockets.remove(0));
    eventually("accepted", || ring.stats().accepted == 1);
    let mut clients: Vec<_> = sockets.into_iter().map(connect).collect();
    eventually("the shortage was met", || ring.stats().accept_errors > 0);
    let before = ring.stats();
    std::thread::sleep(Duration::from_millis(350));
    let after = ring.stats();
    assert!(after.accept_errors - before.accept_errors <= 5, "the accept spins");
    assert!(after.turns - before.turns <= 20, "the loop spins");
    // Connections made before the shortage go on during it.
    first.write_all(b"ping").unwrap();
    first.read_exact(&mut [0; 4]).unwrap();
    limit_files(used + 1000);
    for stream in &mut clients {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    drop(clients);
    ring.stop();
}

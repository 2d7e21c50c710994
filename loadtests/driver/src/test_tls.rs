//! TLS in front of the tests' broker, with an authority of its own.

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Passes what comes over TLS on to `broker`, and back. The port, and the authority as PEM. Its
/// threads end with the process.
pub fn front_of(broker: u16) -> (u16, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for outside in listener.incoming() {
            let mut tls = ServerConnection::new(config.clone()).unwrap();
            tls.set_buffer_limit(None);
            let inside = TcpStream::connect(("127.0.0.1", broker)).unwrap();
            std::thread::spawn(move || pass_on(outside.unwrap(), inside, tls));
        }
    });
    (port, pem)
}

/// One connection, by looking at both sides in turn.
fn pass_on(mut outside: TcpStream, mut inside: TcpStream, mut tls: ServerConnection) -> Option<()> {
    outside.set_nonblocking(true).ok()?;
    inside.set_nonblocking(true).ok()?;
    let mut chunk = [0; 65_536];
    loop {
        let mut is_idle = true;
        if let Some(count) = some_of(outside.read(&mut chunk))? {
            let mut raw = &chunk[..count];
            while !raw.is_empty() {
                tls.read_tls(&mut raw).ok()?;
                let state = tls.process_new_packets().ok()?;
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                tls.reader().read_exact(&mut plain).ok()?;
                inside.write_all(&plain).ok()?;
            }
            is_idle = false;
        }
        if let Some(count) = some_of(inside.read(&mut chunk))? {
            tls.writer().write_all(&chunk[..count]).ok()?;
            is_idle = false;
        }
        while tls.wants_write() {
            some_of(tls.write_tls(&mut outside))?;
        }
        if is_idle {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Bytes, or that there are none now; `None`: it is over.
fn some_of(outcome: std::io::Result<usize>) -> Option<Option<usize>> {
    match outcome {
        Ok(0) => None,
        Ok(count) => Some(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(None),
        Err(_) => None,
    }
}

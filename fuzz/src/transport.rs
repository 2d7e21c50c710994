//! A connection through every combination of PROXY header, TLS and WebSocket. The first byte chooses the layers and
//! who speaks: raw bytes, or a TLS client whose bytes are changed on their way.
//!
//! Held: no panic; a peer that says nothing expensive gets no expensive step; answers are bounded; through TLS comes
//! what was sent and nothing else; nothing comes out of a connection that has ended.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use fulcrum_transport::{
    ClientCertificates, HandshakeBudget, Layers, Progress, ServerTls, Stack, WebSocketSettings,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::script::Script;

#[path = "../../dataplane/transport/tests/harness/mod.rs"]
#[allow(unreachable_pub, reason = "a test's")]
mod harness;

use harness::{Authority, REQUEST, frame};

const PROXY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x07\x5b";

/// Steps an input may cost; a handshake takes a few.
const TURNS_MAX: usize = 64;

struct World {
    tls: Arc<ServerTls>,
    client: Arc<ClientConfig>,
    client_12: Arc<ClientConfig>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let authority = Authority::new();
        World {
            tls: authority.server(ClientCertificates::default()),
            client: Arc::new(authority.client()),
            client_12: Arc::new(authority.client_of(&[&rustls::version::TLS12])),
        }
    })
}

/// Takes one input.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let choice = script.byte();
    let layers = Layers {
        proxy: choice & 1 != 0,
        tls: (choice & 2 != 0).then(|| Arc::clone(&world().tls)),
        websocket: (choice & 4 != 0)
            .then(|| WebSocketSettings { path: "/mqtt".into(), message_bytes_max: 2000 }),
    };
    let mut server = Server::new(&layers, usize::from(script.byte()) + 1);
    if choice & 8 == 0 || layers.tls.is_none() {
        for part in script.rest().chunks(300) {
            server.take(part);
        }
        return;
    }
    if layers.proxy {
        server.take(PROXY);
    }
    talk(&mut server, &mut script, choice);
}

/// The server's end, driven as a shard does.
struct Server {
    stack: Stack,
    plain: Vec<u8>,
    out: Vec<u8>,
    piece: usize,
    over: bool,
}

impl Server {
    fn new(layers: &Layers, piece: usize) -> Self {
        let stack = Stack::new(layers).expect("layers need nothing");
        Self { stack, plain: Vec::new(), out: Vec::new(), piece, over: false }
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece) {
            if self.over {
                let mut budget = HandshakeBudget::new(1);
                let before = self.plain.len();
                let _ = self.stack.receive(piece, &mut self.plain, &mut budget);
                assert_eq!(self.plain.len(), before, "a connection that has ended speaks");
                return;
            }
            // Every other turn of a shard has nothing left for handshakes.
            let mut progress =
                self.stack.receive(piece, &mut self.plain, &mut HandshakeBudget::new(0));
            for _ in 0..TURNS_MAX {
                if !matches!(progress, Ok(Progress::HandshakeDue)) {
                    break;
                }
                progress = self.stack.resume(&mut self.plain, &mut HandshakeBudget::new(1));
            }
            match progress {
                Ok(Progress::Open) => {}
                Ok(Progress::HandshakeDue) => panic!("a step that is never done"),
                Ok(Progress::Finished) => {
                    self.stack.close(&mut self.out);
                    self.over = true;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    self.stack.refuse(&mut self.out);
                    self.over = true;
                }
            }
            if !self.over && self.stack.wants_flush() && self.stack.flush(&mut self.out).is_err() {
                self.over = true;
            }
            assert!(self.out.len() < (1 << 16) + 4 * self.plain.len(), "a talkative server");
        }
    }
}

/// A client that does what the script says, over a line that does too.
fn talk(server: &mut Server, script: &mut Script<'_>, choice: u8) {
    let config = if choice & 16 == 0 { &world().client } else { &world().client_12 };
    let name = ServerName::try_from("edge.example").expect("a host name");
    let mut client = ClientConnection::new(Arc::clone(config), name).expect("a usable name");
    let websocket = choice & 4 != 0;
    let mut sent = Vec::new();
    let (mut changed, mut left, mut deaf) = (false, false, false);
    if websocket {
        let _ = client.writer().write_all(REQUEST.as_bytes());
    }
    for _ in 0..TURNS_MAX {
        let action = script.byte() % 8;
        match action {
            0 if !left => {
                let payload = script.bytes();
                let bytes = if websocket { frame(0x82, payload) } else { payload.to_vec() };
                if client.writer().write_all(&bytes).is_ok() {
                    sent.extend(bytes);
                }
            }
            // A handshake is not left with an alert of one's own: rustls' client does not expect it.
            1 if !client.is_handshaking() => {
                client.send_close_notify();
                left = true;
            }
            2 if !server.over => server.stack.output().extend_from_slice(script.bytes()),
            _ => {}
        }
        let mut line = Vec::new();
        while client.wants_write() && client.write_tls(&mut line).is_ok() {}
        match action {
            3 if !line.is_empty() => {
                let at = usize::from(script.short()) % line.len();
                line[at] ^= script.byte();
                changed = true;
            }
            4 => {
                line.truncate(usize::from(script.byte()));
                changed = true;
            }
            5 => {
                let at = usize::from(script.byte()).min(line.len());
                line.splice(at..at, script.bytes().iter().copied());
                changed = true;
            }
            _ => {}
        }
        server.take(&line);
        if !server.over && server.stack.wants_flush() {
            let _ = server.stack.flush(&mut server.out);
        }
        let answer = std::mem::take(&mut server.out);
        let mut rest = answer.as_slice();
        while !rest.is_empty() && !deaf && client.read_tls(&mut rest).is_ok_and(|read| read > 0) {
            deaf = client.process_new_packets().is_err();
        }
        if script.is_over() && line.is_empty() && answer.is_empty() && !client.wants_write() {
            break;
        }
    }
    if websocket {
        return;
    }
    assert!(sent.starts_with(&server.plain) || changed, "what nobody sent");
    if !changed && !client.is_handshaking() {
        assert_eq!(server.plain, sent, "what was sent and did not arrive");
    }
}

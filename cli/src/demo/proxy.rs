//! The link between edge and cloud: a TCP relay that can be cut and healed.
//!
//! Cut means: running connections break at once, bytes under way are lost, new ones are refused by closing them.

use crate::error::Failure;
use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A relay to one address.
pub struct Proxy {
    healthy: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Relays connections to `listen` on to `target`.
    pub async fn start(listen: SocketAddr, target: SocketAddr) -> Result<Proxy, Failure> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| Failure::Host { what: "listen for the uplink", source })?;
        let (healthy, state) = watch::channel(true);
        let task = tokio::spawn(accept(listener, target, state));
        Ok(Proxy { healthy, task })
    }

    /// Breaks the link.
    pub fn cut(&self) {
        self.healthy.send_replace(false);
    }

    /// Makes it whole again.
    pub fn heal(&self) {
        self.healthy.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Receiver<bool>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if *state.borrow() {
            tokio::spawn(relay(stream, target, state.clone()));
        }
    }
}

async fn relay(mut near: TcpStream, target: SocketAddr, mut state: watch::Receiver<bool>) {
    let _ = near.set_nodelay(true);
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    let _ = far.set_nodelay(true);
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        // Also ends when the proxy is gone.
        _ = state.wait_for(|healthy| !healthy) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_cut_breaks_running_and_new_connections_until_it_heals() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let proxy = Proxy::start(listen, target).await.unwrap();

        let mut stream = TcpStream::connect(listen).await.unwrap();
        assert!(echoes(&mut stream).await);
        proxy.cut();
        assert!(!echoes(&mut stream).await);
        assert!(!echoes(&mut TcpStream::connect(listen).await.unwrap()).await);
        proxy.heal();
        assert!(echoes(&mut TcpStream::connect(listen).await.unwrap()).await);
    }

    async fn echoes(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok()
            && matches!(stream.read(&mut byte).await, Ok(1))
            && byte == *b"x"
    }
}

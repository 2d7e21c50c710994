//! A device over HTTP/1.1: `POST /telemetry` and `POST /event` on one kept connection, one request at a time.

use super::device::{ANSWER_TIMEOUT, Broken, Device, Phase};
use base64::Engine as _;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Pause after the node said that it cannot take an event now.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// One connection from its beginning to its end; `Ok` when the device was told to stop.
pub async fn connection(device: &mut Device) -> Result<(), Broken> {
    let mut wire = Wire::connect(device).await?;
    device.connected();
    let mut tick = interval(device.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        // What the last connection left over goes first: the order is kept.
        while let Some(n) = device.pending.front().copied() {
            wire.send_event(device, n).await?;
        }
        tick.tick().await;
        match device.phase() {
            Phase::Run => wire.send_reading(device).await?,
            Phase::Drain => {}
            Phase::Stop => return Ok(()),
        }
    }
}

struct Wire {
    sender: SendRequest<Full<Bytes>>,
    authorization: String,
    host: String,
}

impl Wire {
    async fn connect(device: &Device) -> Result<Wire, Broken> {
        let stream =
            timeout(ANSWER_TIMEOUT, TcpStream::connect(device.node)).await.map_err(no_answer)??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Broken(error.to_string()))?;
        tokio::spawn(connection);
        let pair = format!("{}:{}", device.username, device.password);
        let authorization =
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        Ok(Wire { sender, authorization, host: device.node.to_string() })
    }

    /// One reading as telemetry, QoS 0 and 1 in turn, and as an event.
    async fn send_reading(&mut self, device: &mut Device) -> Result<(), Broken> {
        let number = device.next_telemetry();
        let qos = if number.is_multiple_of(4) { "1" } else { "0" };
        let status = self.post("/telemetry", qos, device.series.payload(number)).await?;
        if status != StatusCode::ACCEPTED {
            device.ledger.lock().telemetry.refused += 1;
        }
        device.next_event();
        Ok(())
    }

    async fn send_event(&mut self, device: &mut Device, n: u64) -> Result<(), Broken> {
        device.ledger.lock().attempt(n);
        match self.post("/event", "1", device.series.payload(n)).await? {
            StatusCode::ACCEPTED => device.acknowledged(n),
            StatusCode::SERVICE_UNAVAILABLE => {
                device.ledger.lock().trouble = Some("an event was answered with 503".to_owned());
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            status => return Err(Broken(format!("an event was answered with {status}"))),
        }
        Ok(())
    }

    async fn post(
        &mut self,
        path: &str,
        qos: &str,
        payload: Vec<u8>,
    ) -> Result<StatusCode, Broken> {
        let request = Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .header("QoS-Level", qos)
            .body(Full::new(Bytes::from(payload)))
            .map_err(|error| Broken(error.to_string()))?;
        let exchange = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            // The connection is free again once the body is read.
            answer.into_body().collect().await?;
            Ok::<_, hyper::Error>(status)
        };
        timeout(ANSWER_TIMEOUT, exchange)
            .await
            .map_err(no_answer)?
            .map_err(|error| Broken(error.to_string()))
    }
}

fn no_answer(_: tokio::time::error::Elapsed) -> Broken {
    Broken(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
}

//! A client's connection to a gateway: every way in which an answer may stay away is an outcome, none is a panic.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A little longer than the gateway takes for the whole of a call.
const PATIENCE: Duration = Duration::from_secs(4);

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// It is the answer to an earlier request with the same key.
    pub(crate) replayed: bool,
    pub(crate) body: Value,
}

/// A way into the mesh; connects when it has to.
pub(crate) struct Door {
    at: SocketAddr,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Door {
    pub(crate) fn new(at: SocketAddr) -> Self {
        Self { at, open: None }
    }

    /// One request; `Err` says why there is no answer, and nobody knows then what became of it.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> Result<Answer, String> {
        let asked = timeout(PATIENCE, self.exchange(method, path, key, body)).await;
        let answer = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> Result<Answer, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.at.to_string());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let request = request
            .body(body)
            .expect("a request of ours is well-formed");
        let sending = self.connection().await?;
        let answer = sending.send_request(request).await;
        let answer = answer.map_err(|why| why.to_string())?;
        let status = answer.status().as_u16();
        let replayed = answer.headers().contains_key("idempotency-replayed");
        let body = answer.into_body().collect().await;
        let body = body.map_err(|why| why.to_string())?.to_bytes();
        Ok(Answer {
            status,
            replayed,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        })
    }

    async fn connection(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, String> {
        if let Some(open) = &mut self.open
            && open.ready().await.is_err()
        {
            self.open = None;
        }
        if self.open.is_none() {
            let stream = TcpStream::connect(self.at).await;
            let stream = stream.map_err(|why| why.to_string())?;
            // A socket that is gone already is found to be when it is used.
            let _ = stream.set_nodelay(true);
            let shaken = handshake(TokioIo::new(stream)).await;
            let (sender, connection) = shaken.map_err(|why| why.to_string())?;
            tokio::spawn(connection);
            self.open = Some(sender);
        }
        self.open.as_mut().ok_or_else(|| "no connection".to_owned())
    }
}

//! The door alone: a fixed answer to every request, to measure what a session costs.
//!
//! `cargo run --release -p highpress-proxy --example door -- edge 127.0.0.1:8080 1`, and `pingora` in
//! place of `edge` for pingora's own HTTP/1.1 session with the same answer. Then, on another core,
//! `wrk -t1 -c64 http://127.0.0.1:8080/`, and compare the process's CPU time with what wrk counted.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use highpress_proxy::edge::{
    Alarm, Answer, Client, Edge, EdgeLimits, Head, Lane, ListenerOptions, Protocols, Refusal,
    Service,
};
use http::HeaderValue;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY: &[u8] =
    br#"{"status":"success","data":{"resource_id":"article_001","current_value":42}}"#;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().context("edge or pingora?")?;
    let address: SocketAddr = arguments.next().context("which address?")?.parse()?;
    let threads = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let (_running, drain) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match kind.as_str() {
        "edge" => {
            let options = ListenerOptions {
                address,
                protocols: Protocols::default(),
            };
            let edge = Edge::bind(&[options])?;
            let running = edge.start(Arc::new(Fixed), threads, EdgeLimits::default(), drain)?;
            runtime.block_on(running.drained());
            Ok(())
        }
        "pingora" => runtime.block_on(pingora(address, drain)),
        other => bail!("{other} is neither edge nor pingora"),
    }
}

struct Fixed;

fn fixed() -> Answer {
    Answer::new(
        200,
        HeaderValue::from_static("application/json; charset=utf-8"),
        BODY.to_vec(),
    )
}

impl Service for Fixed {
    type Call = ();

    fn route(&self, _worker: usize, _head: &Head) -> Lane<()> {
        Lane::Unary {
            call: (),
            max_body: 4 << 20,
        }
    }

    async fn unary(&self, _worker: usize, _call: (), _head: &Head, _body: &[u8]) -> Answer {
        fixed()
    }

    async fn stream(
        &self,
        _worker: usize,
        _call: (),
        _head: &Head,
        _client: &mut dyn Client,
    ) -> Option<Answer> {
        Some(fixed())
    }

    async fn pass_through(
        &self,
        _worker: usize,
        _call: (),
        _session: ServerSession,
        _alarm: Alarm,
        _drain: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        None
    }

    fn refuse(&self, _worker: usize, _head: Option<&Head>, refusal: Refusal) -> Answer {
        Answer {
            status: refusal.status(),
            ..Answer::default()
        }
    }
}

async fn pingora(address: SocketAddr, drain: ShutdownWatch) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let app = Arc::new(PingoraFixed);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (app, drain) = (app.clone(), drain.clone());
        tokio::spawn(async move {
            app.process_new(Box::new(Stream::from(socket)), &drain)
                .await
        });
    }
}

struct PingoraFixed;

impl PingoraFixed {
    async fn answer(session: &mut ServerSession) -> pingora_error::Result<bool> {
        if !session.read_request().await? {
            return Ok(false);
        }
        while session.read_request_body().await?.is_some() {}
        let mut header = ResponseHeader::build(200, Some(4))?;
        header.insert_header("content-type", "application/json; charset=utf-8")?;
        header.insert_header("content-length", BODY.len())?;
        session.write_response_header(Box::new(header)).await?;
        session.write_response_body(BODY.into(), true).await?;
        Ok(true)
    }
}

#[async_trait]
impl HttpServerApp for PingoraFixed {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _drain: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_keepalive(Some(60));
        if !Self::answer(&mut session).await.ok()? {
            return None;
        }
        let settings = pingora_core::apps::HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }
}

//! One HTTP request to a cluster that speaks HTTP/1.1 or HTTP/2, whole on both sides, on pingora's connectors and
//! their pools: each worker keeps its own connections.
//!
//! A failure says whether the backend may have seen the request. A kept connection that turns out to be closed
//! (RFC 9112 section 9.3.1) is replaced by a new one if the method is idempotent. Refused: replies beyond the
//! caller's bound, upgrades, and informational replies without end.

pub(crate) mod connect;
pub(crate) mod farewell;
pub(crate) mod ready;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::Reason as Reset;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use resilience::retry::Pushback;
use tokio::time::{Instant, timeout};

use super::attempt::Attempt;
use super::call::TryError;
use super::cluster::Cluster;
use super::counters::Outcome;
use super::endpoint::Endpoint;
use super::error::{CallError, NoRetry};
use super::exchange::Exchange;
use super::policy::Terms;
use super::retries::Reason;
use crate::metadata::{GRPC_TIMEOUT, REQUEST_TIMEOUT};

/// Eight digits are all that `grpc-timeout` takes.
const GRPC_TIMEOUT_MOST: u128 = 99_999_999;
/// Kept connections that turn out to be closed before the next one's failure is told.
const MOST_REPLACED: usize = 8;
/// Informational replies (1xx) before the one that counts.
const MOST_INFORMATIONAL: usize = 8;

/// One HTTP request.
#[derive(Debug)]
pub struct HttpCall<'a> {
    /// Its head: framing fits `body`, and a `Host` is there.
    pub request: &'a RequestHeader,
    /// Its body.
    pub body: &'a Bytes,
    /// How large the body of the reply may be.
    pub max_response: usize,
    /// How long there is time, and when it may be repeated.
    pub terms: Terms<'a>,
}

/// What a backend answered.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// 200 to 599.
    pub status: u16,
    /// The header section, framing and hop-by-hop fields included.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

/// The connections to the backends of one cluster: those of each worker by themselves.
#[derive(Default)]
pub(crate) struct Pools(OnceLock<Box<[Connector]>>);

/// Why an exchange on a session did not end with a reply.
struct Broken {
    error: TryError,
    /// Nothing of a reply had come.
    unanswered: bool,
}

// === impl Pools ===

impl Pools {
    /// The worker's own, and then the others'.
    fn from(&self, worker: usize, workers: usize) -> impl Iterator<Item = &Connector> {
        let make = || (0..workers.max(1)).map(|_| Connector::new(None)).collect();
        let all = self.0.get_or_init(make);
        let (before, rest) = all.split_at(worker % all.len());
        rest.iter().chain(before)
    }
}

impl std::fmt::Debug for Pools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

// === impl HttpCall ===

impl Exchange for HttpCall<'_> {
    type Reply = HttpReply;

    fn terms(&self) -> &Terms<'_> {
        &self.terms
    }

    async fn once(
        &self,
        attempt: &mut Attempt,
        worker: usize,
        until: Instant,
    ) -> Result<HttpReply, TryError> {
        let (endpoint, departure) = attempt.set_out();
        let cluster = endpoint.cluster();
        let cluster = cluster.ok_or_else(|| unconnected(endpoint, "the cluster was removed"))?;
        let mut replaced = 0;
        loop {
            let (connector, peer, mut http, reused) = connect(&cluster, endpoint, worker).await?;
            if !reused {
                // How long connections take says nothing about how long answers do.
                departure.at = Instant::now();
            }
            departure.sent = true;
            let may_replace = reused && replaced < MOST_REPLACED;
            match self.talk(&mut http, endpoint, until).await {
                Ok(reply) => {
                    let idle = Some(connect::POOL_IDLE);
                    connector.release_http_session(http, &peer, idle).await;
                    return Ok(reply);
                }
                Err(broken) => {
                    drop(http);
                    if !(broken.unanswered && may_replace && is_idempotent(&self.request.method)) {
                        return Err(broken.error);
                    }
                    replaced += 1;
                }
            }
        }
    }

    fn outcome(reply: &HttpReply) -> Outcome {
        Outcome::of_http(reply.status)
    }

    fn reason(reply: &HttpReply) -> Reason {
        Reason::Status(reply.status)
    }

    fn pushback(reply: &HttpReply) -> Option<Pushback> {
        let value = reply.headers.get(RETRY_AFTER)?;
        Pushback::of_retry_after(value.as_bytes(), SystemTime::now())
    }

    /// A backend's answer in HTTP stays as it is: it has no place for words of ours.
    fn not_tried_again(reply: HttpReply, _: &NoRetry) -> HttpReply {
        reply
    }
}

impl HttpCall<'_> {
    async fn talk(
        &self,
        http: &mut HttpSession,
        to: &Arc<Endpoint>,
        until: Instant,
    ) -> Result<HttpReply, Broken> {
        let written = self.write(http, until).await;
        // A backend may answer before it has read everything, and close: what it says counts.
        let read = read_head(http).await;
        let head = match (read, written) {
            (Ok(head), _) => head,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(Broken::of(to, &error)),
        };
        let status = head.status.as_u16();
        let headers = head.headers.clone();
        let body = self.read_body(http, to).await?;
        if let HttpSession::H1(http) = http {
            http.respect_keepalive();
        }
        Ok(HttpReply {
            status,
            headers,
            body,
        })
    }

    async fn write(&self, http: &mut HttpSession, until: Instant) -> pingora_core::Result<()> {
        let mut request = Box::new(self.request.clone());
        let left = until.saturating_duration_since(Instant::now());
        hurry(&mut request, left)?;
        http.write_request_header(request).await?;
        if !self.body.is_empty() {
            http.write_request_body(self.body.clone(), true).await?;
        }
        http.finish_request_body().await
    }

    async fn read_body(
        &self,
        http: &mut HttpSession,
        from: &Arc<Endpoint>,
    ) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        loop {
            let chunk = http.read_response_body().await;
            let chunk = chunk.map_err(|error| Broken::of(from, &error).midway())?;
            let Some(chunk) = chunk else {
                return Ok(body);
            };
            let size = body.len() + chunk.len();
            if size > self.max_response {
                let limit = self.max_response;
                return Err(Broken {
                    error: TryError::Failed(CallError::TooLarge { size, limit }),
                    unanswered: false,
                });
            }
            body.extend_from_slice(&chunk);
        }
    }
}

/// The head of the reply that counts.
async fn read_head(http: &mut HttpSession) -> pingora_core::Result<&ResponseHeader> {
    for _ in 0..=MOST_INFORMATIONAL {
        http.read_response_header().await?;
        let status = http
            .response_header()
            .map_or(0, |head| head.status.as_u16());
        if status == 101 {
            return Err(Error::explain(
                ErrorType::InvalidHTTPHeader,
                "an upgrade that nobody asked for",
            ));
        }
        if status >= 200 {
            break;
        }
    }
    http.response_header()
        .filter(|head| head.status.as_u16() >= 200)
        .ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "no final reply"))
}

/// A connection, and whether it is a kept one. Where the limits allow no more of them, one that another worker keeps
/// will do.
async fn connect<'c>(
    cluster: &'c Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    worker: usize,
) -> Result<(&'c Connector, HttpPeer, HttpSession, bool), TryError> {
    let address = endpoint
        .socket_addr()
        .ok_or_else(|| unconnected(endpoint, "the host name has no address"))?;
    let patience = cluster.connect_timeout();
    for connector in cluster.http.from(worker, endpoint.lanes.len()) {
        let peer = connect::peer(cluster, (endpoint, worker), address, patience);
        // Pingora bounds the connection, but not the handshake of HTTP/2 behind it.
        let why = match timeout(patience, connector.get_http_session(&peer)).await {
            Ok(Ok((http, reused))) => return Ok((connector, peer, http, reused)),
            Ok(Err(error)) if connect::is_full(&error) => continue,
            Ok(Err(error)) if !connect::is_unreachable(&error) => {
                return Err(unconnected(endpoint, &connect::why(&error)));
            }
            Ok(Err(error)) => connect::why(&error),
            Err(_) => format!("no connection within {patience:?}"),
        };
        endpoint.unreachable(Some(worker), &why);
        return Err(unconnected(endpoint, &why));
    }
    Err(TryError::NoRoom)
}

fn unconnected(endpoint: &Arc<Endpoint>, why: &str) -> TryError {
    TryError::TurnedAway(CallError::Connect {
        endpoint: Arc::clone(endpoint.name()),
        why: why.into(),
    })
}

/// Says how much time is left, rounded down, also in the client's other way of saying it.
pub(crate) fn hurry(request: &mut RequestHeader, left: Duration) -> pingora_core::Result<()> {
    let millis = left.as_millis().min(GRPC_TIMEOUT_MOST);
    if request.headers.contains_key(&GRPC_TIMEOUT) {
        request.insert_header(GRPC_TIMEOUT, format!("{millis}m"))?;
    }
    request.insert_header(REQUEST_TIMEOUT, format!("{millis}ms"))
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

// === impl Broken ===

impl Broken {
    fn of(endpoint: &Arc<Endpoint>, error: &Error) -> Self {
        let refused = || CallError::Refused {
            endpoint: Arc::clone(endpoint.name()),
        };
        let (error, unanswered) = match error.root_cause().downcast_ref::<h2::Error>() {
            Some(h2) if h2.is_go_away() && h2.is_remote() => (TryError::NotSent(refused()), true),
            Some(h2) if h2.is_reset() && h2.reason() == Some(Reset::REFUSED_STREAM) => {
                (TryError::TurnedAway(refused()), false)
            }
            Some(h2) if h2.is_reset() => {
                let reason = h2.reason().unwrap_or(Reset::INTERNAL_ERROR);
                (TryError::BrokeOff(CallError::Reset(reason)), false)
            }
            _ => match error.etype() {
                ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H2Downgrade => {
                    let why = CallError::Malformed("the backend did not answer HTTP");
                    (TryError::Failed(why), false)
                }
                _ => {
                    let why = CallError::ConnectionLost(error.to_string().trim().into());
                    (TryError::BrokeOff(why), true)
                }
            },
        };
        Self { error, unanswered }
    }

    /// The same after the head of a reply: nothing makes that unseen.
    fn midway(self) -> Self {
        let error = match self.error.into_error() {
            error if error.never_executed() => CallError::ConnectionLost(error.to_string().into()),
            error => error,
        };
        Self {
            error: TryError::Failed(error),
            unanswered: false,
        }
    }
}

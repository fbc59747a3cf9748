//! The client: an address, a token, a few idle connections. One request, one bounded answer or one [`Error`].
//!
//! A request is sent again only if the connection had closed before anything of it was written. The token is in one
//! header, marked as sensitive, and is cut out of whatever Consul says.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::address::Address;
use crate::answer::{Answer, Meta};
use crate::connection::{self, Connection, Sent};
use crate::error::{Error, Rule};
use crate::request::Request;
use crate::tls::{Tls, TlsFiles};

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
/// Connections that nobody uses are kept for the next call, up to so many.
const MAX_IDLE: usize = 8;
/// Of what Consul says of an error.
const MAX_MESSAGE: usize = 300;

/// Speaks to one Consul agent. Clones share its connections. It belongs to the runtime that it is used on.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    address: Address,
    host: HeaderValue,
    token: Option<Token>,
    /// For addresses that are reached over it.
    tls: Tls,
    idle: Mutex<Vec<Connection>>,
}

struct Token {
    header: HeaderValue,
    text: Box<str>,
}

/// A token that cannot stand in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token has characters that no token has")]
pub struct TokenError;

impl Client {
    /// A client; nothing is connected yet. An empty token is none. Over TLS, those are believed whom the system believes.
    ///
    /// # Errors
    /// If the token cannot be sent.
    pub fn new(address: Address, token: Option<&str>) -> Result<Self, TokenError> {
        Self::with_tls(address, token, TlsFiles::default())
    }

    /// The same with TLS, if the address asks for it, made of these files. They are read when a connection is opened.
    ///
    /// # Errors
    /// If the token cannot be sent.
    pub fn with_tls(
        address: Address,
        token: Option<&str>,
        tls: TlsFiles,
    ) -> Result<Self, TokenError> {
        let token = match token.filter(|token| !token.is_empty()) {
            Some(text) => {
                let mut header = HeaderValue::from_str(text).map_err(|_| TokenError)?;
                header.set_sensitive(true);
                let text = text.into();
                Some(Token { header, text })
            }
            None => None,
        };
        // Letters, digits, dots, colons and brackets: an address has nothing else.
        let host = HeaderValue::from_str(&address.authority()).map_err(|_| TokenError)?;
        Ok(Self(Arc::new(Inner {
            address,
            host,
            token,
            tls: Tls::new(tls),
            idle: Mutex::default(),
        })))
    }

    /// Where the agent is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// The address of this machine from which the agent is reached.
    ///
    /// # Errors
    /// If there is no way there.
    pub async fn local_address(&self) -> std::io::Result<IpAddr> {
        let address = &self.0.address;
        let mut found = tokio::net::lookup_host((address.host(), address.port())).await?;
        let agent = found.next().ok_or(std::io::ErrorKind::NotFound)?;
        let any = if agent.is_ipv4() {
            SocketAddr::from(([0; 4], 0))
        } else {
            SocketAddr::from(([0; 16], 0))
        };
        // Nothing is sent: connecting a UDP socket only looks up the route.
        let socket = UdpSocket::bind(any).await?;
        socket.connect(agent).await?;
        Ok(socket.local_addr()?.ip())
    }

    /// Sends a request, and gives its whole answer if it is a success.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, Error> {
        let late = |after| Error::Timeout {
            what: "answer",
            after,
        };
        let patience = request.patience;
        let (response, connection) = timeout(patience, self.head(&request))
            .await
            .map_err(|_| late(patience))??;
        let (head, body) = response.into_parts();
        let body = connection::read(body).await?;
        self.keep(connection);
        let status = head.status.as_u16();
        match status {
            200..=299 | 404 if status != 404 || request.may_be_missing => Ok(Answer {
                meta: Meta::of(&head.headers),
                found: status != 404,
                body,
            }),
            403 => Err(self.forbidden(request.rule, &body)),
            _ => Err(Error::Status {
                status,
                message: self.message(&body),
            }),
        }
    }

    async fn head(
        &self,
        request: &Request,
    ) -> Result<(http::Response<Incoming>, Connection), Error> {
        let mut message = self.message_of(request)?;
        let mut idle = self.take_idle();
        loop {
            // An idle connection may have closed by the time it is used; a new one that does is an error.
            let (mut connection, fresh) = match idle.take() {
                Some(connection) => (connection, false),
                None => (Connection::open(&self.0.address, &self.0.tls).await?, true),
            };
            match connection.send(message).await {
                Sent::Answered(response) => return Ok((response, connection)),
                Sent::Failed(error) => return Err(error),
                Sent::Unsent(_) if fresh => {
                    return Err(Error::Broken("closed before the request was sent".into()));
                }
                Sent::Unsent(unsent) => {
                    message = unsent;
                    idle = self.take_idle();
                }
            }
        }
    }

    fn message_of(&self, request: &Request) -> Result<http::Request<Full<Bytes>>, Error> {
        let mut message = http::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = request
            .target
            .parse()
            .map_err(|_| Error::nonsense("the request is too long to be sent"))?;
        let headers = message.headers_mut();
        headers.insert(HOST, self.0.host.clone());
        if !request.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = &self.0.token {
            headers.insert(TOKEN, token.header.clone());
        }
        Ok(message)
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.0.idle.lock();
        while let Some(connection) = idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.0.idle.lock();
        if idle.len() < MAX_IDLE && connection.is_open() {
            idle.push(connection);
        }
    }

    /// What Consul names is what is missing; what was asked for is the next best.
    fn forbidden(&self, asked: Rule, body: &[u8]) -> Error {
        let message = self.message(body);
        let rule = missing_rule(&message).unwrap_or(asked);
        Error::Forbidden { rule, message }
    }

    /// The beginning of what Consul says, in one line, without the token.
    fn message(&self, body: &[u8]) -> Box<str> {
        let start = &body[..body.len().min(4 * MAX_MESSAGE)];
        let mut text = String::from_utf8_lossy(start).into_owned();
        if let Some(token) = &self.0.token {
            text = text.replace(&*token.text, "<token>");
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let line: String = words
            .join(" ")
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        match line.char_indices().nth(MAX_MESSAGE) {
            Some((end, _)) => format!("{}…", &line[..end]).into(),
            None => line.into(),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.0.address)
            .field("token", &self.0.token.is_some())
            .finish_non_exhaustive()
    }
}

/// `… lacks permission 'key:read' on "a/b"`.
fn missing_rule(message: &str) -> Option<Rule> {
    let (_, rest) = message.split_once("lacks permission '")?;
    let (rule, rest) = rest.split_once('\'')?;
    let (resource, access) = rule.split_once(':')?;
    let resource = [
        "service", "key", "node", "session", "agent", "query", "operator",
    ]
    .into_iter()
    .find(|known| *known == resource)?;
    let access = ["read", "write", "list"]
        .into_iter()
        .find(|known| *known == access)?;
    let name = rest
        .split_once('"')
        .and_then(|(_, rest)| rest.split_once('"'))?
        .0;
    Some(Rule::new(resource, access, name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn client(token: &str) -> Client {
        Client::new("127.0.0.1:1".parse().unwrap(), Some(token)).unwrap()
    }

    #[test]
    fn what_consul_names_is_what_is_missing() {
        let rule = Rule::new("service", "read", "counter");
        let said = "Permission denied: token with AccessorID '6a12' lacks permission 'service:write' on \"high-go\"";
        let Error::Forbidden { rule: named, .. } =
            client("a-token").forbidden(rule.clone(), said.as_bytes())
        else {
            panic!("not forbidden")
        };
        assert_eq!(named.to_string(), "`service:write` on `high-go`");
        for vague in ["ACL not found", "", "lacks permission '", "<html>"] {
            let error = client("a-token").forbidden(rule.clone(), vague.as_bytes());
            assert!(
                error
                    .to_string()
                    .starts_with("403: the token lacks `service:read` on `counter`"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_token_is_nowhere_to_be_seen() {
        let secret = "6a1253d2-1785-24fd-91c2-f8e78c745511";
        let client = client(secret);
        assert!(!format!("{client:?}").contains(secret));
        let message = client.message(format!("no such token: {secret}\n\nat all").as_bytes());
        assert_eq!(&*message, "no such token: <token> at all");
        assert!(Client::new("a:1".parse().unwrap(), Some("a\nb")).is_err());
    }
}

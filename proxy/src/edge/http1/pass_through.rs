//! Lends a connection to pingora for one request.
//!
//! What has been read goes back in front of the socket as it was sent, but for upgrades to anything
//! other than WebSocket: those would let a client speak past the gateway, and are left out.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream as TcpLayer;
use pingora_core::protocols::{GetSocketDigest, SocketDigest};

use super::watched::Watched;
use super::{End, HeadKnown, Session};
use crate::edge::parse::{Body, Framing};
use crate::edge::refusal::Refusal;
use crate::edge::socket::Socket;
use crate::edge::{Alarm, Service};

impl<S: Service> Session<S> {
    /// Serves this request through pingora; `Ok` when the connection came back.
    pub(super) async fn pass_through(
        &mut self,
        call: S::Call,
        framing: Framing,
    ) -> Result<(), End> {
        self.flush().await?;
        let request = self.take_request(framing);
        let socket = std::mem::replace(&mut self.socket, Socket::Lent);
        let alarm = Alarm::default();
        let Some(layer) = rewound(socket, &request, self.head.peer) else {
            return Err(End::Refuse(
                Refusal::BadRequest("the connection cannot be passed on"),
                HeadKnown::Yes,
            ));
        };
        drop(request);
        let worker = self.worker.clone();
        let lent = Watched {
            layer,
            alarm: alarm.clone(),
        };
        let mut session = ServerSession::new_http1(Box::new(lent));
        let keep = framing.keep_alive && !worker.connections.is_draining();
        session.set_keepalive(keep.then_some(worker.limits.idle_timeout.as_secs().max(1)));
        session.set_read_timeout(Some(worker.limits.body_timeout));
        session.set_write_timeout(Some(worker.limits.write_timeout));
        let returned = worker
            .service
            .pass_through(worker.index, call, session, alarm, &worker.drain)
            .await;
        let (stream, _settings) = returned.ok_or(End::Close)?.consume();
        let lent = stream.into_any().downcast::<Watched>();
        self.socket = Socket::Returned(lent.map_err(|_| End::Close)?.layer);
        match framing.keep_alive && !worker.connections.is_draining() {
            true => Ok(()),
            false => Err(End::Close),
        }
    }

    /// The request's bytes as they were sent. What is known to belong to the next one stays here.
    fn take_request(&mut self, framing: Framing) -> Vec<u8> {
        let head = &mut self.head;
        self.consumed = match framing.body {
            Body::Length(length) => head
                .end
                .saturating_add(usize::try_from(length).unwrap_or(usize::MAX)),
            Body::Chunked => usize::MAX,
        }
        .min(head.buffer.len());
        let left_out = head.left_out();
        for &at in &head.lowered {
            head.buffer[at as usize].make_ascii_uppercase();
        }
        let bytes = &head.buffer[..self.consumed];
        match left_out.is_empty() {
            true => bytes.to_vec(),
            false => without(bytes, &left_out),
        }
    }
}

fn without(bytes: &[u8], ranges: &[std::ops::Range<usize>]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for range in ranges {
        kept.extend_from_slice(&bytes[from..range.start]);
        from = range.end;
    }
    kept.extend_from_slice(&bytes[from..]);
    kept
}

/// The socket as pingora wants it, with `request` to be read first.
fn rewound(socket: Socket, request: &[u8], peer: SocketAddr) -> Option<Box<TcpLayer>> {
    let mut layer = match socket {
        Socket::Tcp(tcp) => {
            let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
            digest.peer_addr.set(Some(peer.into())).ok();
            let mut layer = TcpLayer::from(tcp);
            layer.set_socket_digest(digest);
            Box::new(layer)
        }
        Socket::Returned(layer) => layer,
        Socket::Lent => return None,
    };
    layer.rewind(request);
    Some(layer)
}

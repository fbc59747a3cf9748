//! The copy of a request that is passed through: its body, and the body of its answer, are gathered as they pass.
//!
//! Refused: to hold anything up, and to gather more than a bound; what is larger is not copied, or not compared.

use http::Request;
use pingora_proxy::Session;

use super::report::Copied;
use super::{Copy, LARGEST, Mirror, Owned};
use crate::edge::Head;
use crate::route_table::Row;
use crate::unary::Call;

/// One request that is copied while it passes.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The copy, until its body is whole and it goes.
    waiting: Option<Owned>,
    /// The copy that went, as long as it wants to know the answer.
    sent: Option<Copy>,
    status: u16,
    answer: Vec<u8>,
}

// === impl Capture ===

impl Capture {
    /// A copy of this request, if it is to be copied.
    pub(crate) fn of(worker: usize, call: &Call, row: &Row, session: &mut Session) -> Option<Self> {
        let mirror = row.policies.mirror.as_ref()?;
        let request = session.req_header();
        if request.headers.contains_key(http::header::UPGRADE) || !mirror.selects(&request.method) {
            return None;
        }
        let mut asked = Request::new(());
        *asked.method_mut() = request.method.clone();
        *asked.uri_mut() = request.uri.clone();
        *asked.headers_mut() = request.headers.clone();
        let peer = session
            .client_addr()
            .and_then(|peer| peer.as_inet())
            .copied();
        let waiting = Owned {
            worker,
            call: call.copied(),
            head: Head::of_peer(&asked, peer),
            body: Vec::new(),
            // It is among the headers.
            id: None,
        };
        let mut capture = Self {
            waiting: Some(waiting),
            sent: None,
            status: 0,
            answer: Vec::new(),
        };
        if session.as_mut().is_body_empty() {
            capture.request_body(mirror, &[], true);
        }
        Some(capture)
    }

    /// A piece of the request's body; the copy goes with the last one.
    pub(crate) fn request_body(&mut self, mirror: &Mirror, piece: &[u8], last: bool) {
        let Some(copy) = &mut self.waiting else {
            return;
        };
        if copy.body.len() + piece.len() > LARGEST {
            mirror.report.copied(Copied::Dropped);
            self.waiting = None;
            return;
        }
        copy.body.extend_from_slice(piece);
        if last {
            self.sent = self.waiting.take().and_then(|copy| mirror.send(copy));
        }
    }

    /// The answer's head.
    pub(crate) fn answering(&mut self, status: u16) {
        self.status = status;
    }

    /// A piece of the answer's body; the copy's answer is compared with it after the last one.
    pub(crate) fn answer_body(&mut self, piece: &[u8], last: bool) {
        if !self.sent.as_ref().is_some_and(Copy::compares) {
            return;
        }
        if self.answer.len() + piece.len() > LARGEST {
            self.sent = None;
            return;
        }
        self.answer.extend_from_slice(piece);
        if last && let Some(copy) = self.sent.take() {
            copy.told(self.status, std::mem::take(&mut self.answer));
        }
    }
}

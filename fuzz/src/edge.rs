//! The edge's own reader of request heads, taken from the gateway's source so that the gateway need not be built.

#![allow(
    dead_code,
    clippy::all,
    reason = "a part of the edge, without those who use the rest of it"
)]

#[path = "../../proxy/src/edge/grammar.rs"]
mod grammar;
#[path = "../../proxy/src/edge/head.rs"]
mod head;
#[path = "../../proxy/src/edge/limits.rs"]
mod limits;
#[path = "../../proxy/src/edge/parse.rs"]
mod parse;
#[path = "../../proxy/src/edge/refusal.rs"]
mod refusal;

use head::Head;
use limits::EdgeLimits;
use parse::{Framing, Scanner};
use refusal::Refusal;

/// What came of a head.
#[derive(Debug, PartialEq)]
pub struct Read {
    outcome: Result<Option<Framing>, Refusal>,
    path: String,
    query: Option<String>,
    host: String,
}

impl Read {
    /// Whether it was taken.
    pub fn is_taken(&self) -> bool {
        matches!(self.outcome, Ok(Some(_)))
    }

    /// The path of a head that was taken.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Reads a head whose bytes come in pieces of this size.
pub fn read(bytes: &[u8], size: usize) -> Read {
    let (mut scanner, limits) = (Scanner::default(), EdgeLimits::default());
    let mut head = Head::new(([127, 0, 0, 1], 1).into(), 0);
    let mut outcome = Ok(None);
    for piece in bytes.chunks(size.max(1)) {
        head.buffer.extend_from_slice(piece);
        outcome = scanner.advance(&mut head, &limits);
        if outcome != Ok(None) {
            break;
        }
    }
    let taken = matches!(outcome, Ok(Some(_)));
    let text = |text: &str| {
        if taken {
            text.to_owned()
        } else {
            String::new()
        }
    };
    Read {
        path: text(head.path()),
        query: head.query().filter(|_| taken).map(str::to_owned),
        host: text(head.host()),
        outcome,
    }
}

//! What a request is asked at the door, before its body is read: has the gateway the strength for it, and is it
//! within its route's rate limit?
//!
//! Both are answered from memory. The gateway's own pages are let in whatever happens. Who is turned away is
//! counted like any other answer of the route.

use tokio::time::Instant;
use transcode::Captures;

use crate::edge::{Answer, Head};
use crate::error::GatewayError;
use crate::rate_limit::{Keyed, Ticket};
use crate::refusals;
use crate::route_table::Row;
use crate::shedding::Shedding;

/// Lets a request in, or answers it.
pub(crate) fn enter(
    worker: usize,
    shedding: &Shedding,
    row: &Row,
    head: &Head,
    captures: &Captures,
) -> Result<Ticket, Box<Answer>> {
    let priority = row.policies.priority;
    if let Some(priority) = priority.filter(|priority| shedding.turns_away(*priority)) {
        let error = GatewayError::Shed(priority);
        let answer = turned_away(worker, row, head, &error, &Ticket::Free);
        return Err(Box::new(answer));
    }
    let Some(limit) = &row.policies.rate_limit else {
        return Ok(Ticket::Free);
    };
    let request = Keyed {
        head,
        captures,
        variables: row.variables(),
    };
    limit.enter(&request, head.received()).map_err(|decision| {
        let error = limit.refused(decision);
        let ticket = Ticket::Counted(decision);
        Box::new(turned_away(worker, row, head, &error, &ticket))
    })
}

fn turned_away(
    worker: usize,
    row: &Row,
    head: &Head,
    error: &GatewayError,
    ticket: &Ticket,
) -> Answer {
    let mut answer = refusals::failed(Some(row), head.into(), error);
    if let Some(limit) = &row.policies.rate_limit {
        limit.describe(ticket, &mut answer.headers);
    }
    row.policies.answer(head, &mut answer.headers);
    let took = Instant::now().saturating_duration_since(head.received());
    row.stats.answered(worker, answer.status, took);
    answer
}

//! The rate limit of a route that passes requests through: asked of the store here, where the door could not, and told
//! to the client with every answer.

use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::Pass;
use super::client::while_it_waits;
use super::entry::Stop;
use crate::edge::Headers;
use crate::rate_limit::{self, RouteLimit, Ticket};

impl Pass {
    /// Has the request counted, if it is not yet.
    pub(super) async fn count(&mut self, session: &mut Session) -> Result<(), Stop> {
        let (Ticket::Pending(_), Some(decision)) = (&self.ticket, self.decision.clone()) else {
            return Ok(());
        };
        let limit = decision
            .row()
            .and_then(|row| row.policies.rate_limit.as_ref());
        let asked = rate_limit::settle(limit, &mut self.ticket);
        while_it_waits(session, asked).await?.map_err(Stop::Refused)
    }

    /// Tells the client of the limit in the gateway's own answer.
    pub(super) fn describe(&self, headers: &mut Headers) {
        if let Some(limit) = self.limit() {
            limit.describe(&self.ticket, headers);
        }
    }

    /// Tells the client of the limit in a backend's answer.
    pub(crate) fn describe_in(&self, response: &mut ResponseHeader) -> pingora_core::Result<()> {
        let mut headers = Headers::new();
        self.describe(&mut headers);
        for (name, value) in headers {
            response.append_header(name, value)?;
        }
        Ok(())
    }

    fn limit(&self) -> Option<&RouteLimit> {
        self.row()?.policies.rate_limit.as_ref()
    }
}

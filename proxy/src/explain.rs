//! What would happen to a request, in words: its route and why, why not the near misses, the message that it
//! becomes, and where that goes. It asks the same table and bindings that requests go through.

mod message;
mod near;
mod policies;
mod question;

use std::fmt::Write;
use std::sync::Arc;

use http::Method;
use mesh_config::{Problems, Snapshot};
use transcode::Captures;

use crate::destination::{self, Chosen, Switches};
use crate::edge::Head;
use crate::mirror;
use crate::route_table::{Found, Plan, Planned, PlannedRow, RouteTable, Row, Waiting, compile};
use crate::shaping;
use crate::stream::Form;
use crate::upstream::ClusterView;

pub(crate) use question::Question;

/// What only a running gateway knows.
#[derive(Clone, Copy)]
pub(crate) struct Live<'a> {
    /// Its clusters.
    pub clusters: &'a [ClusterView],
    /// Its table, of the same configuration.
    pub table: &'a RouteTable,
}

/// Explains a request by a configuration that is not running.
pub(crate) fn planned(
    plan: &Plan,
    question: &Question,
    switches: Switches,
) -> Result<String, String> {
    explain(plan, question, None, &switches)
}

/// Explains a request by the configuration in force, with the state of the clusters.
///
/// # Errors
/// Never in practice: what is in force has been compiled before.
pub(crate) fn live(
    snapshot: &Arc<Snapshot>,
    question: &Question,
    live: Live<'_>,
    switches: Switches,
) -> Result<String, Problems> {
    let plan = compile(snapshot)?;
    let explained = explain(&plan, question, Some(live), &switches);
    Ok(explained.unwrap_or_else(|why| format!("{why}\n")))
}

fn explain(
    plan: &Plan,
    question: &Question,
    live: Option<Live<'_>>,
    switches: &Switches,
) -> Result<String, String> {
    let head = question.head()?;
    let mut out = format!("{} {}\n", question.method, question.target);
    let found = plan.find(&head);
    let taken = match &found {
        Found::Row(index, captures) => {
            if let Some(row) = plan.row(*index) {
                taken(plan, row, captures, &head, question, &mut out);
            }
            Some(*index)
        }
        Found::MethodNotAllowed { allow, .. } => {
            let _ = match *head.method() == Method::OPTIONS {
                true => writeln!(out, "answer     204: Allow: {allow}, OPTIONS"),
                false => writeln!(
                    out,
                    "answer     405: the path is taken, but not with {}; Allow: {allow}",
                    question.method
                ),
            };
            None
        }
        Found::NotFound => {
            match plan.waiting.first() {
                Some(waiting) => {
                    let Waiting { route, what } = waiting;
                    let _ = writeln!(
                        out,
                        "answer     503: route {route} may take it, and waits for {what}"
                    );
                }
                None => {
                    let _ = writeln!(out, "answer     404: no route takes this path");
                }
            }
            None
        }
    };
    near::misses(plan, taken, &head, &mut out);
    if let Some(row) = taken.and_then(|index| plan.row(index))
        && let Some(route) = plan.route(row)
    {
        let switched = switches.get(route.name.as_str());
        let known = live.and_then(|live| chosen(live.table, &head));
        let known = known
            .as_ref()
            .map(|(row, chosen)| (&row.policies.destination, *chosen));
        destination::lines(route, switched, known, &mut out);
        if let Some(mirror) = &route.mirror {
            let _ = writeln!(out, "mirror     {}", mirror::describe(mirror));
        }
        for cluster in plan.clusters(row) {
            policies::whole(plan, cluster, live.map(|live| live.clusters), &mut out);
        }
    }
    Ok(out)
}

fn taken(
    plan: &Plan,
    row: &PlannedRow,
    captures: &Captures,
    head: &Head,
    question: &Question,
    out: &mut String,
) {
    let _ = writeln!(out, "route      {}", row.route);
    let methods: Vec<&str> = row.conditions.methods().collect();
    let methods = if methods.is_empty() {
        "any method".to_owned()
    } else {
        methods.join(", ")
    };
    let _ = writeln!(out, "pattern    {methods} {}", row.pattern);
    let conditions = row.conditions.headers.len() + row.conditions.query.len();
    let _ = writeln!(
        out,
        "why        the most specific pattern that fits; {conditions} further conditions, all met"
    );
    match &row.action {
        Planned::Transcode { binding, .. } => {
            let body = question.body.as_bytes();
            message::becomes(binding, captures, head, body, out);
            message::crossing(plan.route(row), head, out);
        }
        Planned::Stream { binding, form, .. } => {
            let body = question.body.as_bytes();
            message::becomes(binding, captures, head, body, out);
            message::crossing(plan.route(row), head, out);
            let form = Form::wanted(head.header("accept"), *form);
            let _ = writeln!(out, "answer     a stream: {}", form.as_str());
        }
        Planned::Grpc(methods) => message::passed(methods, head, out),
        Planned::PassThrough => {
            let _ = writeln!(out, "becomes    the same request, passed through as HTTP");
        }
        Planned::Redirect(_) => {
            let _ = writeln!(out, "becomes    an answer that sends the client elsewhere");
        }
        Planned::Waiting(what, _) => {
            let _ = writeln!(out, "answer     503: waiting for {what}");
        }
        Planned::System(..) => {
            let _ = writeln!(out, "becomes    a page that the gateway answers itself");
        }
    }
    let _ = writeln!(out, "timeout    {:?}", row.timeout);
    if let Some(route) = plan.route(row) {
        let binding = row.action.binding();
        policies::at_the_door(route, out);
        policies::repeats(route, binding, head.method().as_str(), out);
        for (word, line) in shaping::tell(route) {
            let _ = writeln!(out, "{word:<10} {line}");
        }
    }
}

/// The row of a running gateway that takes a request, and where it would go now.
fn chosen<'t>(table: &'t RouteTable, head: &Head) -> Option<(&'t Row, Chosen)> {
    let Found::Row(index, captures) = table.find(head) else {
        return None;
    };
    let row = table.row(index)?;
    Some((row, row.choose(head, &captures)))
}

//! What would happen to a request, in words: its route and why, why not the near misses, the message that it
//! becomes, and where that goes. It asks the same table and bindings that requests go through.

mod policies;

use std::fmt::Write;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request};
use mesh_config::model::{Endpoint, Endpoints};
use mesh_config::{Problems, Snapshot};
use transcode::{Binding, Captures, Codec, JsonOptions};

use crate::destination::{self, Chosen, Switches};
use crate::edge::Head;
use crate::metadata;
use crate::mirror;
use crate::route_table::{Found, Plan, Planned, PlannedRow, RouteTable, Row, Unmet, compile};
use crate::shaping;
use crate::upstream::ClusterView;

/// How many near misses are told of.
const NEAR: usize = 5;

/// A request to be explained.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

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
            let _ = writeln!(
                out,
                "answer     405: the path is taken, but not with {}; Allow: {allow}",
                question.method
            );
            None
        }
        Found::NotFound => {
            let _ = writeln!(out, "answer     404: no route takes this path");
            None
        }
    };
    near_misses(plan, taken, &head, &mut out);
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
            policy(plan, cluster, live.map(|live| live.clusters), &mut out);
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
            becomes(plan, binding, captures, head, body, out);
        }
        Planned::Stream(binding) => {
            let _ = writeln!(
                out,
                "answer     501: {} streams, and this version transcodes unary methods only",
                binding.grpc_path
            );
        }
        Planned::PassThrough => {
            let _ = writeln!(out, "becomes    the same request, passed through as HTTP");
        }
        Planned::Redirect(_) => {
            let _ = writeln!(out, "becomes    an answer that sends the client elsewhere");
        }
        Planned::System(..) => {
            let _ = writeln!(out, "becomes    a page that the gateway answers itself");
        }
    }
    let _ = writeln!(out, "timeout    {:?}", row.timeout);
    if let Some(route) = plan.route(row) {
        let binding = match &row.action {
            Planned::Transcode { binding, .. } => Some(&**binding),
            _ => None,
        };
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

/// The gRPC request that a request becomes, or why it is refused.
fn becomes(
    plan: &Plan,
    binding: &Binding,
    captures: &Captures,
    head: &Head,
    body: &[u8],
    out: &mut String,
) {
    let _ = writeln!(out, "becomes    gRPC {}", binding.grpc_path);
    let mut wire = Vec::new();
    let encoded = binding.encode_request(head.path(), captures, head.query(), body, &mut wire);
    let message = encoded.map_err(|error| error.to_string()).and_then(|()| {
        let mut json = Vec::new();
        let codec = Codec::new(plan.schema.clone(), JsonOptions::default());
        codec
            .decode(binding.input, &wire, &mut json)
            .map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&json).into_owned())
    });
    let _ = match message {
        Ok(json) => writeln!(out, "message    {json}"),
        Err(why) => writeln!(out, "answer     400: {why}"),
    };
    for (name, value) in head.headers() {
        if let Some((name, value)) = metadata::crossing(name, value) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let _ = writeln!(out, "metadata   {name}: {value}");
        }
    }
}

/// The rows whose patterns come closest, and what keeps the request from them.
fn near_misses(plan: &Plan, taken: Option<u32>, head: &Head, out: &mut String) {
    let segments = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let path = segments(head.path());
    let shared = |row: &PlannedRow| {
        let theirs = segments(&row.pattern);
        theirs
            .iter()
            .zip(&path)
            .take_while(|(pattern, given)| *pattern == *given || pattern.starts_with('{'))
            .count()
    };
    let mut near: Vec<(usize, &PlannedRow)> = (0u32..)
        .zip(&plan.rows)
        .filter(|(index, row)| Some(*index) != taken && shared(row) > 1)
        .map(|(_, row)| (shared(row), row))
        .collect();
    near.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
    for (_, row) in near.into_iter().take(NEAR) {
        let methods: Vec<&str> = row.conditions.methods().collect();
        let methods = match methods.is_empty() {
            true => "any method".to_owned(),
            false => methods.join(","),
        };
        let _ = writeln!(
            out,
            "not        {methods} {} ({}): {}",
            row.pattern,
            row.route,
            why_not(row, head, &path)
        );
    }
}

fn why_not(row: &PlannedRow, head: &Head, path: &[String]) -> String {
    let pattern: Vec<&str> = row.pattern.split('/').collect();
    let fits = |(pattern, given): (&&str, &String)| {
        *pattern == given || pattern.starts_with('{') || *pattern == "**"
    };
    if let Some(at) = pattern.iter().zip(path).position(|pair| !fits(pair)) {
        return format!("segment {at} is `{}`, not `{}`", path[at], pattern[at]);
    }
    let open_ended = row.pattern.contains("**");
    if pattern.len() != path.len() && !open_ended {
        return format!(
            "it has {} segments, the path {}",
            pattern.len() - 1,
            path.len() - 1
        );
    }
    match row.conditions.unmet(head) {
        Some(Unmet::Path) => return "the route's own `match` does not fit the path".to_owned(),
        Some(Unmet::Header(name)) => return format!("its condition on header `{name}` is not met"),
        Some(Unmet::Query(name)) => {
            return format!("its condition on query parameter `{name}` is not met");
        }
        None => {}
    }
    if !row.conditions.takes_method(head.method().as_str()) {
        return format!("the method is {}", head.method());
    }
    "a more specific pattern fits".to_owned()
}

fn policy(plan: &Plan, name: &str, clusters: Option<&[ClusterView]>, out: &mut String) {
    let Some(cluster) = plan
        .snapshot
        .clusters
        .iter()
        .find(|cluster| cluster.name.as_str() == name)
    else {
        return;
    };
    let limits = &cluster.limits;
    let _ = writeln!(
        out,
        "cluster    {name}: {}, {}, connect timeout {:?}, at most {} requests in flight and {} waiting",
        cluster.protocol.as_str(),
        cluster.load_balancing.policy.as_str(),
        cluster.connect_timeout.get(),
        limits.requests,
        limits.pending,
    );
    let view = clusters.and_then(|views| views.iter().find(|view| *view.name == *name));
    policies::of_cluster(cluster, view, out);
    match view {
        Some(view) => {
            for endpoint in &view.endpoints {
                policies::of_endpoint(endpoint, out);
            }
        }
        None => configured(&cluster.endpoints, out),
    }
}

/// Where the endpoints of a cluster come from.
fn configured(endpoints: &Endpoints, out: &mut String) {
    match endpoints {
        Endpoints::Static(endpoints) => {
            for Endpoint { address, weight } in endpoints {
                let _ = writeln!(out, "endpoint   {address} weight {weight}");
            }
        }
        Endpoints::Consul(asked) => {
            let query = &asked.query;
            let _ = write!(out, "endpoints  service {} in Consul", query.service);
            if !query.tags.is_empty() {
                let _ = write!(out, ", tags {}", query.tags.join(", "));
            }
            if let Some(datacenter) = &query.datacenter {
                let _ = write!(out, ", datacenter {datacenter}");
            }
            if let Some(filter) = &query.filter {
                let _ = write!(out, ", filter {filter}");
            }
            out.push('\n');
        }
    }
}

// === impl Question ===

impl Question {
    /// Reads `name: value` header lines.
    pub(crate) fn with_header_lines(mut self, lines: &[String]) -> Result<Self, String> {
        for line in lines {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("`{line}` is not a header: write `name: value`"))?;
            self.headers
                .push((name.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(self)
    }

    /// The question that [`Question::to_query`] wrote.
    pub(crate) fn from_query(query: &str) -> Result<Self, String> {
        let mut question = Self::default();
        let mut lines = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value)
                .ok_or_else(|| format!("`{pair}` is not percent-encoded UTF-8"))?;
            match name {
                "method" => question.method = value,
                "path" => question.target = value,
                "header" => lines.push(value),
                "body" => question.body = value,
                other => {
                    return Err(format!(
                        "unknown parameter `{other}`; there are method, path, header and body"
                    ));
                }
            }
        }
        if question.method.is_empty() || question.target.is_empty() {
            return Err(
                "give `method` and `path`, such as /explain?method=GET&path=/v1/things".to_owned(),
            );
        }
        question.with_header_lines(&lines)
    }

    /// The question as a query, to ask a running gateway.
    pub(crate) fn to_query(&self) -> String {
        let mut pairs = vec![
            ("method", self.method.clone()),
            ("path", self.target.clone()),
            ("body", self.body.clone()),
        ];
        pairs.extend(
            self.headers
                .iter()
                .map(|(name, value)| ("header", format!("{name}: {value}"))),
        );
        let encoded = pairs
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", percent_encoded(value)));
        encoded.collect::<Vec<_>>().join("&")
    }

    fn head(&self) -> Result<Head, String> {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(self.target.as_str());
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`{name}` is not a header name"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("`{value}` is not a header value"))?;
            request = request.header(name, value);
        }
        let request = request
            .body(())
            .map_err(|error| format!("not a request: {error}"))?;
        Ok(Head::of(&request))
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            out.push(*first);
            rest = after;
            continue;
        }
        let (pair, after) = after.split_at_checked(2)?;
        out.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_its_way_through_a_query() {
        let question = Question {
            method: "POST".into(),
            target: "/a/%2F?x=1&y=é".into(),
            headers: vec![("x-v".into(), "1 & 2".into())],
            body: "{\"a\": \"100%\"}".into(),
        };
        let back = Question::from_query(&question.to_query()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{question:?}"));
        assert!(Question::from_query("method=GET").is_err());
        assert!(Question::from_query("method=GET&path=%zz").is_err());
    }
}

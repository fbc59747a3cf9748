//! `routes`: which requests go where, and how.

use std::collections::HashMap;
use std::sync::Arc;

use super::{balancing, cors, destination, matching, rate, retry, shaping, transcode};
use crate::model::{
    Action, Canary, ClusterName, Cors, Destinations, Fault, HashOn, HeaderEdits, Hedge, Match,
    Mirror, Priority, RateKey, RateLimit, Retry, Rewrite, Route, RouteName, Subset, Timeout,
};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::ROUTE;

/// A route as far as it could be read: what it says of other sections is checked even if something else is
/// wrong with it.
pub(crate) struct Declared<'n> {
    pub(crate) value: Value<'n>,
    /// Every cluster that it names, and where.
    pub(crate) clusters: destination::Named<'n>,
    /// What it says about transcoding; `None`: it passes through.
    pub(crate) transcode: Option<transcode::Declared>,
    /// It has a `hash_on`, and splits nothing that would go by it.
    pub(crate) hash_needs_policy: bool,
    pub(crate) route: Option<Route>,
}

pub(crate) fn routes<'n>(value: &Value<'n>, report: &mut Report) -> Vec<Declared<'n>> {
    let mut routes = Vec::new();
    let mut lines: HashMap<RouteName, u32> = HashMap::new();
    for item in value.items(report).unwrap_or_default() {
        let Some(fields) = item.fields(&ROUTE, report) else {
            continue;
        };
        let name = fields
            .require("name", report)
            .and_then(|value| unique_name(&value, &mut lines, report));
        routes.push(route(item, &fields, name, report));
    }
    routes
}

fn unique_name(
    value: &Value<'_>,
    lines: &mut HashMap<RouteName, u32>,
    report: &mut Report,
) -> Option<RouteName> {
    let name = value.parsed(report, RouteName::parse)?;
    match lines.insert(name.clone(), value.line()) {
        None => Some(name),
        Some(first) => {
            let why = format!("`{name}` is already the name of the route on line {first}");
            value.wrong(report, why)
        }
    }
}

fn route<'n>(
    value: Value<'n>,
    fields: &Fields<'n>,
    name: Option<RouteName>,
    report: &mut Report,
) -> Declared<'n> {
    let matches = match fields.get("match") {
        Some(value) => matching::matching(&value, report),
        None => any(&value, fields, report),
    };
    let transcode = fields
        .get("transcode")
        .map(|value| transcode::transcode(&value, report));
    let mut clusters = Vec::new();
    let redirect = fields.get("redirect").map(|redirect| {
        refuse_beside_redirect(&value, fields, report);
        shaping::redirect(&redirect, matches.as_ref(), report)
    });
    let destinations = match &redirect {
        Some(_) => Some(Destinations::default()),
        None => destination::destinations(&value, fields, &mut clusters, report),
    };
    let action = match (redirect, &transcode) {
        (Some(redirect), _) => redirect.map(Action::Redirect),
        (None, Some(declared)) => declared.transcode.clone().map(Action::Transcode),
        (None, None) => Some(Action::PassThrough),
    };
    let policies = policies(
        fields,
        matches.as_ref(),
        destinations.as_ref(),
        &mut clusters,
        report,
    );
    refuse_what_needs_a_template(&value, fields, &policies, report);
    let shares = |canary: &Canary| canary.share.is_some();
    let splits = fields.has("weighted") || policies.canary.as_ref().is_some_and(shares);
    let hash_needs_policy = policies.hash_on.is_some() && destinations.is_some() && !splits;
    let whole = || Some(policies.route(name?, matches?, action?, destinations?));
    Declared {
        value,
        clusters,
        transcode,
        hash_needs_policy,
        route: whole(),
    }
}

/// No `match`: the annotations of transcoded services are one, other routes need one.
fn any(value: &Value<'_>, fields: &Fields<'_>, report: &mut Report) -> Option<Match> {
    if !fields.has("transcode") && !fields.has("match") {
        let why = "missing: a route without `transcode` needs one (`match: { path_prefix: / }` takes every request)";
        value.problem_below(report, "match", why);
    }
    Some(Match::default())
}

/// Everything that a route may have beside where it goes.
struct Policies {
    timeout: Timeout,
    idle_timeout: Timeout,
    retry: Option<Retry>,
    hedge: Option<Hedge>,
    hash_on: Option<HashOn>,
    subset: Option<Arc<Subset>>,
    rate_limit: Option<RateLimit>,
    canary: Option<Canary>,
    mirror: Option<Mirror>,
    fault: Option<Fault>,
    fallback: Vec<ClusterName>,
    rewrite: Option<Rewrite>,
    request_headers: HeaderEdits,
    response_headers: HeaderEdits,
    compression: Option<bool>,
    cors: Option<Arc<Cors>>,
    priority: Priority,
}

impl Policies {
    fn route(
        self,
        name: RouteName,
        matches: Match,
        action: Action,
        destinations: Destinations,
    ) -> Route {
        Route {
            name,
            matches,
            action,
            destinations,
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
            retry: self.retry,
            hedge: self.hedge,
            hash_on: self.hash_on,
            subset: self.subset,
            rate_limit: self.rate_limit,
            canary: self.canary,
            mirror: self.mirror,
            fault: self.fault,
            fallback: self.fallback,
            rewrite: self.rewrite,
            request_headers: self.request_headers,
            response_headers: self.response_headers,
            compression: self.compression,
            cors: self.cors,
            priority: self.priority,
        }
    }
}

fn policies<'n>(
    fields: &Fields<'n>,
    matches: Option<&Match>,
    destinations: Option<&Destinations>,
    clusters: &mut destination::Named<'n>,
    report: &mut Report,
) -> Policies {
    Policies {
        timeout: fields.or("timeout", Route::DEFAULT_TIMEOUT, report, Value::timeout),
        idle_timeout: fields.or(
            "idle_timeout",
            Route::DEFAULT_IDLE_TIMEOUT,
            report,
            Value::timeout,
        ),
        retry: fields.read("retry", report, retry::retry),
        hedge: fields.read("hedge", report, retry::hedge),
        hash_on: fields.read("hash_on", report, destination::hash_on),
        subset: balancing::subset(fields, report).map(Arc::new),
        rate_limit: fields.read("rate_limit", report, rate::rate_limit),
        canary: fields.read("canary", report, |value, report| {
            destination::canary(value, destinations, clusters, report)
        }),
        mirror: fields.read("mirror", report, |value, report| {
            destination::mirror(value, clusters, report)
        }),
        fault: fields.read("fault", report, shaping::fault),
        fallback: fields.or("fallback", Vec::new(), report, |value, report| {
            destination::fallback(value, destinations, clusters, report)
        }),
        rewrite: fields.read("rewrite", report, |value, report| {
            shaping::rewrite(value, matches, report)
        }),
        request_headers: fields.or(
            "request_headers",
            HeaderEdits::default(),
            report,
            shaping::header_edits,
        ),
        response_headers: fields.or(
            "response_headers",
            HeaderEdits::default(),
            report,
            shaping::header_edits,
        ),
        compression: fields.read("compression", report, Value::boolean),
        cors: fields.read("cors", report, cors::cors).map(Arc::new),
        priority: fields.or("priority", Priority::default(), report, |value, report| {
            value.choice(shaping::PRIORITIES, report)
        }),
    }
}

/// A redirect is answered by the gateway itself, so nothing that is about backends has a meaning.
fn refuse_beside_redirect(value: &Value<'_>, fields: &Fields<'_>, report: &mut Report) {
    const ABOUT_BACKENDS: [&str; 16] = [
        "transcode",
        "to",
        "weighted",
        "timeout",
        "retry",
        "hedge",
        "hash_on",
        "subset",
        "subset_fallback",
        "canary",
        "mirror",
        "fallback",
        "rewrite",
        "request_headers",
        "fault",
        "compression",
    ];
    for key in ABOUT_BACKENDS.into_iter().filter(|key| fields.has(key)) {
        let why = "a route with `redirect` asks no backend: remove one of the two";
        value.problem_below(report, key, why);
    }
}

/// Only transcoded routes hold the request as a whole, and match by templates that have variables.
fn refuse_what_needs_a_template(
    value: &Value<'_>,
    fields: &Fields<'_>,
    policies: &Policies,
    report: &mut Report,
) {
    if fields.has("transcode") {
        if fields.has("compression") {
            let why =
                "a route with `transcode` says that there: move it to `transcode.compression`";
            value.problem_below(report, "compression", why);
        }
        return;
    }
    if policies.hedge.is_some() {
        let why = "a route without `transcode` cannot be hedged in this version: remove it";
        value.problem_below(report, "hedge", why);
    }
    let why = "a route without `transcode` has no path template, so no variables of one";
    if let Some(HashOn::Path(_)) = &policies.hash_on {
        value.problem_below(report, "hash_on.path", why);
    }
    let keys = policies.rate_limit.iter().flat_map(|limit| &limit.key);
    if keys.into_iter().any(|key| matches!(key, RateKey::Path(_))) {
        value.problem_below(report, "rate_limit.key", why);
    }
}

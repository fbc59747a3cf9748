//! `routes`: which requests go where, and how.

use std::collections::HashMap;

use super::{matching, transcode};
use crate::model::{Action, ClusterName, Match, Route, RouteName};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::ROUTE;

/// A route as far as it could be read: what it says of other sections is checked even if something else is
/// wrong with it.
pub(crate) struct Declared<'n> {
    pub(crate) value: Value<'n>,
    pub(crate) to: Option<ClusterName>,
    /// What it says about transcoding; `None`: it passes through.
    pub(crate) transcode: Option<transcode::Declared>,
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
    // `weighted` is refused by name already: that `to` is missing beside it is no second mistake.
    let to = match fields.has("weighted") {
        true => fields.get("to"),
        false => fields.require("to", report),
    };
    let to = to.and_then(|value| value.parsed(report, ClusterName::parse));
    let timeout = fields
        .get("timeout")
        .map_or(Some(Route::DEFAULT_TIMEOUT), |value| value.timeout(report));
    let action = match &transcode {
        Some(declared) => declared.transcode.clone().map(Action::Transcode),
        None => Some(Action::PassThrough),
    };
    let whole = || {
        Some(Route {
            name: name?,
            matches: matches?,
            action: action?,
            to: to.clone()?,
            timeout: timeout?,
        })
    };
    let route = whole();
    Declared {
        value,
        to,
        transcode,
        route,
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

//! `routes`: which requests go where, and how.

use std::collections::HashMap;

use super::{matching, transcode};
use crate::model::{Action, ClusterName, Match, Route, RouteName};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::ROUTE;

/// A route with the place that it was read from.
pub(crate) struct Declared<'n> {
    pub(crate) route: Route,
    pub(crate) value: Value<'n>,
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
            .and_then(|value| value.parsed(report, RouteName::parse));
        if let Some(first) = name
            .as_ref()
            .and_then(|name| lines.insert(name.clone(), item.line()))
        {
            let path = format!("{}.name", item.path);
            report.add(
                item.line(),
                &path,
                format!("this is already the name of the route on line {first}"),
            );
        }
        if let Some(route) = route(&item, &fields, name, report) {
            routes.push(Declared { route, value: item });
        }
    }
    routes
}

fn route(
    value: &Value<'_>,
    fields: &Fields<'_>,
    name: Option<RouteName>,
    report: &mut Report,
) -> Option<Route> {
    let action = match fields.get("transcode") {
        Some(value) => transcode::transcode(&value, report).map(Action::Transcode),
        None => Some(Action::PassThrough),
    };
    let matches = match fields.get("match") {
        Some(value) => matching::matching(&value, report),
        None => any(value, fields, report),
    };
    let to = match fields.has("weighted") {
        // Refused by name already: that `to` is missing beside it is no second mistake.
        true => fields.get("to"),
        false => fields.require("to", report),
    };
    let to = to.and_then(|value| value.parsed(report, ClusterName::parse));
    let timeout = fields
        .get("timeout")
        .map_or(Some(Route::DEFAULT_TIMEOUT), |value| value.timeout(report));
    Some(Route {
        name: name?,
        matches: matches?,
        action: action?,
        to: to?,
        timeout: timeout?,
    })
}

/// No `match`: the annotations of transcoded services are one, other routes need one.
fn any(value: &Value<'_>, fields: &Fields<'_>, report: &mut Report) -> Option<Match> {
    if !fields.has("transcode") && !fields.has("match") {
        let path = format!("{}.match", value.path);
        let why = "missing: a route without `transcode` needs one (`match: { path_prefix: / }` takes every request)";
        report.add(value.line(), &path, why.to_owned());
    }
    Some(Match::default())
}

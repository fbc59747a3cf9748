//! `routes[]`: `to`, `weighted`, `canary`, `mirror`, `fallback` and `hash_on`. Every cluster that is named is noted
//! for [`crate::check`].

use std::collections::HashMap;

use super::{field, matching};
use crate::model::{
    Canary, ClusterName, ConditionField, Destination, Destinations, FieldCondition, HashOn, Mirror,
    Share, ValueMatch,
};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{CANARY, HASH_ON, MIRROR, WEIGHTED};
use crate::suggest;
use crate::yaml::Kind;

/// The clusters that a route names, and where.
pub(crate) type Named<'n> = Vec<(Value<'n>, ClusterName)>;

fn cluster<'n>(
    value: &Value<'n>,
    named: &mut Named<'n>,
    report: &mut Report,
) -> Option<ClusterName> {
    let name = value.parsed(report, ClusterName::parse)?;
    named.push((value.clone(), name.clone()));
    Some(name)
}

/// `to` or `weighted`.
pub(crate) fn destinations<'n>(
    route: &Value<'n>,
    fields: &Fields<'n>,
    named: &mut Named<'n>,
    report: &mut Report,
) -> Option<Destinations> {
    match (fields.has("to"), fields.has("weighted")) {
        (true, false) => fields
            .read("to", report, |value, report| cluster(value, named, report))
            .map(Destinations::one),
        (false, true) => fields.read("weighted", report, |value, report| {
            weighted(value, named, report)
        }),
        (true, true) => {
            let why = "the route has `weighted` too: keep one of the two";
            route.problem_below(report, "to", why);
            None
        }
        (false, false) => {
            let why = "missing: give a cluster, or `weighted` for several, or `redirect`";
            route.problem_below(report, "to", why);
            None
        }
    }
}

fn weighted<'n>(
    value: &Value<'n>,
    named: &mut Named<'n>,
    report: &mut Report,
) -> Option<Destinations> {
    let mut lines: HashMap<ClusterName, u32> = HashMap::new();
    let mut sides = Some(Vec::new());
    for item in value.items(report)? {
        let side = side(&item, named, report);
        if let Some(side) = &side
            && let Some(first) = lines.insert(side.cluster.clone(), item.line())
        {
            let why = format!("`{}` is already on line {first}: keep one", side.cluster);
            item.problem_below(report, "cluster", why);
        }
        sides = sides.zip(side).map(|(mut sides, side)| {
            sides.push(side);
            sides
        });
    }
    let destinations = Destinations(sides?);
    if destinations.total_weight() == 0 {
        return value.wrong(
            report,
            "all weights are 0: at least one cluster has to get requests",
        );
    }
    Some(destinations)
}

fn side<'n>(value: &Value<'n>, named: &mut Named<'n>, report: &mut Report) -> Option<Destination> {
    let fields = value.fields(&WEIGHTED, report)?;
    let cluster = fields.required("cluster", report, |value, report| {
        cluster(value, named, report)
    });
    let weight = fields.required("weight", report, Value::count);
    Some(Destination {
        cluster: cluster?,
        weight: weight.and_then(|weight| u32::try_from(weight).ok())?,
    })
}

/// A canary. Whether it gets any requests is checked here, as that depends on the destinations.
pub(crate) fn canary<'n>(
    value: &Value<'n>,
    destinations: Option<&Destinations>,
    named: &mut Named<'n>,
    report: &mut Report,
) -> Option<Canary> {
    let fields = value.fields(&CANARY, report)?;
    let cluster = fields.required("cluster", report, |value, report| {
        cluster(value, named, report)
    });
    let share = fields.read("share", report, Value::share);
    let max_error_ratio_over = fields.read("max_error_ratio_over", report, Value::share);
    let max_p99_over = fields.read("max_p99_over", report, Value::any_share);
    let min_requests = fields.or(
        "min_requests",
        Canary::DEFAULT_MIN_REQUESTS,
        report,
        Value::positive_number,
    );
    let mut when = conditions(
        &fields,
        "header",
        field::header,
        ConditionField::Header,
        report,
    );
    when.extend(conditions(
        &fields,
        "cookie",
        field::cookie,
        ConditionField::Cookie,
        report,
    ));
    let canary = Canary {
        cluster: cluster?,
        share,
        max_error_ratio_over,
        max_p99_over,
        min_requests,
        when,
    };
    if let Some(destinations) = destinations {
        canary_gets_requests(value, &fields, &canary, destinations, report);
    }
    Some(canary)
}

fn conditions(
    fields: &Fields<'_>,
    key: &'static str,
    name: fn(&str) -> Result<String, String>,
    kind: fn(String) -> ConditionField,
    report: &mut Report,
) -> Vec<FieldCondition> {
    let conditions = fields.read(key, report, |value, report| {
        let conditions = matching::conditions(value, name, report)?;
        if conditions.iter().any(|one| one.value == ValueMatch::Absent) {
            let why =
                "a canary is asked for by something that is there: leave out `present: false`";
            value.problem(report, why);
        }
        Some(conditions)
    });
    let condition = |field: crate::model::FieldMatch| FieldCondition {
        field: kind(field.name),
        value: field.value,
    };
    conditions
        .unwrap_or_default()
        .into_iter()
        .map(condition)
        .collect()
}

fn canary_gets_requests(
    value: &Value<'_>,
    fields: &Fields<'_>,
    canary: &Canary,
    destinations: &Destinations,
    report: &mut Report,
) {
    let cluster = &canary.cluster;
    let is_side = destinations.iter().any(|side| side.cluster == *cluster);
    let weighted = destinations.only().is_none();
    let (key, why) = if is_side && !weighted {
        let why = format!(
            "`{cluster}` is the only destination of the route: there is nothing to judge it by"
        );
        ("cluster", why)
    } else if weighted && canary.share.is_some() {
        let why = "the route has `weighted`: give the canary its part there".to_owned();
        ("share", why)
    } else if !is_side && canary.share.is_none() && !fields.has("header") && !fields.has("cookie") {
        let how = if weighted {
            "list it under `weighted`"
        } else {
            "give it a `share`"
        };
        let why = format!(
            "`{cluster}` would get no request: {how}, or a `header` or `cookie` that selects it"
        );
        ("cluster", why)
    } else {
        return;
    };
    value.problem_below(report, key, why);
}

pub(crate) fn mirror<'n>(
    value: &Value<'n>,
    named: &mut Named<'n>,
    report: &mut Report,
) -> Option<Mirror> {
    let fields = value.fields(&MIRROR, report)?;
    let cluster = fields.required("cluster", report, |value, report| {
        cluster(value, named, report)
    });
    let share = fields.or("share", Share::ALL, report, Value::share);
    let compare = fields.or("compare", false, report, Value::boolean);
    let ignore = fields.read("ignore", report, |value, report| {
        value.set(report, field::json_path)
    });
    if ignore.is_some() && !compare {
        value.problem_below(
            report,
            "ignore",
            "answers are not compared: add `compare: true`",
        );
    }
    let unsafe_methods = fields.or("unsafe", false, report, Value::boolean);
    Some(Mirror {
        cluster: cluster?,
        share,
        compare,
        ignore: ignore.unwrap_or_default(),
        unsafe_methods,
    })
}

pub(crate) fn fallback<'n>(
    value: &Value<'n>,
    destinations: Option<&Destinations>,
    named: &mut Named<'n>,
    report: &mut Report,
) -> Option<Vec<ClusterName>> {
    let names = value.set(report, ClusterName::parse)?;
    for item in value.items(report)? {
        let Some(name) = item.parsed(report, ClusterName::parse) else {
            continue;
        };
        if destinations.and_then(Destinations::only) == Some(&name) {
            item.problem(
                report,
                format!("requests go to `{name}` anyway: name another cluster"),
            );
        }
        named.push((item, name));
    }
    Some(names)
}

/// `address`, or a map with one of the others.
pub(crate) fn hash_on(value: &Value<'_>, report: &mut Report) -> Option<HashOn> {
    if let Kind::Scalar(_) = &value.node.kind {
        return match value.text(report)? {
            "address" => Some(HashOn::Address),
            word => {
                let keys = suggest::list(HASH_ON.names());
                let why =
                    format!("unknown word `{word}`: write address, or a map with one of {keys}");
                value.wrong(report, why)
            }
        };
    }
    let fields = value.fields(&HASH_ON, report)?;
    let given = HASH_ON.names().filter(|key| fields.has(key)).count();
    if given != 1 {
        let keys = suggest::list(HASH_ON.names());
        // A mistyped key has been reported, and is all that is wrong.
        let mistyped = given == 0 && !fields.is_empty();
        let why = format!("write address, or a map with one of {keys}");
        return (!mistyped).then(|| value.wrong(report, why)).flatten();
    }
    let mut read = |key, parse: fn(&str) -> Result<String, String>| {
        fields.read(key, report, |value, report| value.parsed(report, parse))
    };
    let header = read("header", field::header).map(HashOn::Header);
    let cookie = read("cookie", field::cookie).map(HashOn::Cookie);
    let query = read("query", field::query).map(HashOn::Query);
    let path = read("path", field::variable).map(HashOn::Path);
    header.or(cookie).or(query).or(path)
}

//! The destinations of a route in words and numbers: for `explain`, `/routes`, and metrics.

use std::fmt::Write;

use mesh_config::model::{self, ConditionField, HashOn, Route};
use serde_json::{Value, json};

use super::canary::{Sentence, Trial};
use super::{Chosen, Destination, Switched, Why};

/// A canary at one moment.
pub(crate) struct CanaryNow {
    pub(crate) cluster: String,
    /// Whether it gets no more requests.
    pub(crate) taken_back: bool,
    /// Which part of the requests it gets, beside those that are selected for it.
    pub(crate) share: f64,
}

impl Destination {
    /// The canary, if the route has one.
    pub(crate) fn canary_now(&self) -> Option<CanaryNow> {
        let canary = self.canary.as_ref()?;
        let share = self
            .shares()
            .find(|(cluster, _)| *cluster == canary.cluster);
        Some(CanaryNow {
            cluster: self.clusters[canary.cluster].name().to_string(),
            taken_back: canary.trial.is_over(),
            share: share.map_or(0.0, |(_, share)| share),
        })
    }

    /// What `/routes` shows beside the first cluster.
    pub(crate) fn json(&self) -> Value {
        let name = |index: usize| self.clusters[index].name().to_string();
        let shares: Vec<Value> = self
            .shares()
            .map(|(cluster, share)| json!({ "cluster": name(cluster), "share": rounded(share) }))
            .collect();
        let canary = self.canary.as_ref().map(|canary| {
            let sentence = canary.trial.sentence();
            json!({
                "cluster": name(canary.cluster),
                "state": if canary.trial.is_over() { "taken back" } else { "on trial" },
                "why": sentence.map(|sentence| sentence.why.to_string()),
            })
        });
        let fallback: Vec<String> = self
            .fallback
            .iter()
            .map(|(index, _)| name(*index))
            .collect();
        json!({
            "destinations": shares, "switched": self.switched().map(name), "canary": canary,
            "fallback": fallback, "falling_back": self.state.fallbacks.is_falling(),
        })
    }

    /// Which part of the requests that nothing else decides about each cluster gets now.
    fn shares(&self) -> impl Iterator<Item = (usize, f64)> {
        let switched = self.switched();
        let out = self.canary.as_ref().filter(|canary| canary.trial.is_over());
        let weight = move |(cluster, weight): &(usize, u32)| match (switched, out) {
            (Some(switched), _) => u32::from(*cluster == switched),
            (None, Some(out)) if out.cluster == *cluster => 0,
            (None, _) => *weight,
        };
        let total: f64 = self.sides.iter().map(|side| f64::from(weight(side))).sum();
        let all = self
            .sides
            .iter()
            .map(move |side| (side.0, f64::from(weight(side)) / total.max(1.0)));
        let elsewhere = switched.filter(|cluster| self.sides.iter().all(|side| side.0 != *cluster));
        all.chain(elsewhere.map(|cluster| (cluster, 1.0)))
    }
}

/// What a route says of where its requests go, a line each, with what is so just now if it runs: its destination,
/// and what was chosen for the request in question.
pub(crate) fn lines(
    route: &Route,
    switched: Option<&Switched>,
    live: Option<(&Destination, Chosen)>,
    out: &mut String,
) {
    split(route, live, out);
    if let Some(Switched { cluster, since }) = switched {
        let _ = writeln!(
            out,
            "switched   by hand to {cluster} since {since}: undo with `switch {} --back`",
            route.name.as_str()
        );
    }
    if let Some(config) = &route.canary {
        let trial = live.and_then(|(live, _)| Some(&*live.canary.as_ref()?.trial));
        let _ = writeln!(out, "canary     {}", canary(config, trial));
    }
    if !route.fallback.is_empty() {
        let names: Vec<&str> = route
            .fallback
            .iter()
            .map(model::ClusterName::as_str)
            .collect();
        let falling = live.is_some_and(|(live, _)| live.state.fallbacks.is_falling());
        let _ = writeln!(
            out,
            "fallback   {}, in order, while nobody can have executed the request{}",
            names.join(", "),
            if falling {
                "; requests fall back just now"
            } else {
                ""
            }
        );
    }
    if let Some((live, chosen)) = live
        && let Some(cluster) = live.cluster(chosen)
    {
        let _ = writeln!(out, "goes to    {}: {}", cluster.name(), why(chosen.why));
    }
}

fn split(route: &Route, live: Option<(&Destination, Chosen)>, out: &mut String) {
    let sides = super::weights(route);
    if sides.len() < 2 {
        return;
    }
    let total: f64 = sides.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let stated: Vec<String> = sides
        .iter()
        .map(|(name, weight)| format!("{} {}", name.as_str(), percent(f64::from(*weight) / total)))
        .collect();
    let _ = write!(out, "split      {}", stated.join(", "));
    let _ = match &route.hash_on {
        Some(on) => write!(out, ", sticky by {}", sticky(on)),
        None => write!(out, ", at random"),
    };
    if let Some((live, _)) = live {
        let now: Vec<String> = live
            .shares()
            .map(|(cluster, share)| format!("{} {}", live.clusters[cluster].name(), percent(share)))
            .collect();
        let _ = write!(out, "; now {}", now.join(", "));
    }
    out.push('\n');
}

fn canary(config: &model::Canary, trial: Option<&Trial>) -> String {
    let mut text = config.cluster.as_str().to_owned();
    for condition in &config.when {
        let _ = match &condition.field {
            ConditionField::Header(name) => write!(text, ", always if header `{name}` fits"),
            ConditionField::Cookie(name) => write!(text, ", always if cookie `{name}` fits"),
        };
    }
    let mut terms = Vec::new();
    if let Some(over) = config.max_error_ratio_over {
        terms.push(format!(
            "its error ratio is {} above its siblings'",
            percent(over.ratio())
        ));
    }
    if let Some(over) = config.max_p99_over {
        terms.push(format!("its p99 is {} longer", percent(over.ratio())));
    }
    if !terms.is_empty() {
        let after = config.min_requests;
        let _ = write!(
            text,
            ", taken back if {} after {after} requests of each",
            terms.join(" or ")
        );
    }
    match trial.map(Trial::sentence) {
        None => {}
        Some(None) => text.push_str("; on trial"),
        Some(Some(Sentence { why, at })) => {
            let _ = write!(text, "; taken back at {at}: {why}");
        }
    }
    text
}

fn sticky(on: &HashOn) -> String {
    match on {
        HashOn::Header(name) => format!("header `{name}`"),
        HashOn::Cookie(name) => format!("cookie `{name}`"),
        HashOn::Query(name) => format!("query parameter `{name}`"),
        HashOn::Path(name) => format!("path variable `{name}`"),
        HashOn::Address => "the client's address".to_owned(),
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::Only => "there is no other",
        Why::Switch => "the route was switched by hand",
        Why::Selected => "the request is selected for the canary",
        Why::Split => "this time, by the split",
        Why::Fallback => "the one before could not take it",
    }
}

fn percent(ratio: f64) -> String {
    format!("{}%", rounded(ratio * 100.0))
}

fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

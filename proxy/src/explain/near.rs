//! Near misses: the rows whose patterns come closest to a path, and what keeps the request from each.

use std::fmt::Write;

use mesh_config::model::HostPattern;

use crate::edge::Head;
use crate::route_table::{Plan, PlannedRow, Unmet};

/// How many are told of.
const NEAR: usize = 5;

/// A pattern, segment by segment, whatever its variables are called.
struct Pattern {
    segments: Vec<String>,
    verb: Option<String>,
}

/// The rows beside the one that takes the request, the closest first.
pub(super) fn misses(plan: &Plan, taken: Option<u32>, head: &Head, out: &mut String) {
    let path: Vec<&str> = head.path().split('/').collect();
    let others = (0u32..).zip(&plan.rows);
    let others = others.filter(|(index, _)| Some(*index) != taken);
    let near = others.map(|(_, row)| {
        let pattern = Pattern::of(row);
        (pattern.shared(&path), row, pattern)
    });
    // The first segment is what stands before the first slash.
    let mut near: Vec<_> = near.filter(|(shared, ..)| *shared > 1).collect();
    near.sort_by_key(|(shared, ..)| std::cmp::Reverse(*shared));
    for (_, row, pattern) in near.into_iter().take(NEAR) {
        let methods: Vec<&str> = row.conditions.methods().collect();
        let methods = match methods.is_empty() {
            true => "any method".to_owned(),
            false => methods.join(","),
        };
        let why = why_not(plan, row, &pattern, head, &path);
        let _ = writeln!(
            out,
            "not        {methods} {} ({}): {why}",
            row.pattern, row.route
        );
    }
}

fn why_not(plan: &Plan, row: &PlannedRow, pattern: &Pattern, head: &Head, path: &[&str]) -> String {
    if let Some(why) = pattern.unfit(path) {
        return why;
    }
    let hosts = plan.route(row).map(|route| route.matches.hosts.as_slice());
    if let Some(hosts) =
        hosts.filter(|hosts| !hosts.is_empty() && !hosts.iter().any(|host| fits(host, head.host())))
    {
        let names: Vec<String> = hosts.iter().map(name).collect();
        return format!("the host is `{}`, not {}", head.host(), names.join(" or "));
    }
    match row.conditions.unmet(head) {
        Some(Unmet::Path) => return "the route's own `match` does not fit the path".to_owned(),
        Some(Unmet::Header(name)) => return format!("its condition on header `{name}` is not met"),
        Some(Unmet::Query(name)) => {
            return format!("its condition on query parameter `{name}` is not met");
        }
        None => {}
    }
    if !row.conditions.takes(head, head.method().as_str()) {
        return format!("the method is {}", head.method());
    }
    "a more specific pattern fits".to_owned()
}

fn name(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(host) => format!("`{host}`"),
        HostPattern::Wildcard(parent) => format!("`*.{parent}`"),
    }
}

fn fits(pattern: &HostPattern, host: &str) -> bool {
    let host = host
        .split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    match pattern {
        HostPattern::Exact(exact) => host == exact.to_ascii_lowercase(),
        HostPattern::Wildcard(parent) => {
            let below = host.strip_suffix(parent.to_ascii_lowercase().as_str());
            below.is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        }
    }
}

impl Pattern {
    fn of(row: &PlannedRow) -> Self {
        let template = row.action.binding().map(|binding| &binding.template);
        let verb = template.and_then(|template| template.verb());
        let text = template.map_or_else(|| row.pattern.clone(), |template| template.nameless());
        let text = match &verb {
            Some(verb) => text.strip_suffix(&format!(":{verb}")).unwrap_or(&text),
            None => &text,
        };
        Self {
            segments: text.split('/').map(str::to_owned).collect(),
            verb,
        }
    }

    /// How many segments fit before one does not.
    fn shared(&self, path: &[&str]) -> usize {
        let pairs = self.segments.iter().zip(path);
        pairs
            .take_while(|(pattern, given)| takes(pattern, given))
            .count()
    }

    /// Why it does not take a path.
    fn unfit(&self, path: &[&str]) -> Option<String> {
        if let Some(expression) = self
            .segments
            .first()
            .and_then(|first| first.strip_prefix('~'))
        {
            return Some(format!(
                "an expression: whether `{expression}` fits is asked last"
            ));
        }
        let open = self.segments.last().is_some_and(|last| last == "**");
        let mut pairs = self.segments.iter().zip(path).enumerate();
        if let Some((at, (pattern, given))) =
            pairs.find(|(_, (pattern, given))| !takes(pattern, given))
        {
            let verb = self
                .verb
                .as_deref()
                .filter(|_| at + 1 == self.segments.len());
            let bare = verb.and_then(|verb| given.strip_suffix(&format!(":{verb}")));
            if bare.is_none_or(|bare| bare != pattern) {
                return Some(format!("segment {at} is `{given}`, not `{pattern}`"));
            }
        }
        if self.segments.len() != path.len() && !(open && path.len() + 1 >= self.segments.len()) {
            let (ours, theirs) = (self.segments.len() - 1, path.len() - 1);
            return Some(format!("it has {ours} segments, the path {theirs}"));
        }
        let last = path.last().copied().unwrap_or_default();
        match &self.verb {
            Some(verb) if !last.ends_with(&format!(":{verb}")) => {
                Some(format!("the path does not end with `:{verb}`"))
            }
            _ => None,
        }
    }
}

/// Whether a segment of a pattern takes one of a path.
fn takes(pattern: &str, given: &str) -> bool {
    pattern == given || pattern == "**" || pattern == "*" && !given.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(pattern: &str, verb: Option<&str>, path: &str) -> Option<String> {
        let pattern = Pattern {
            segments: pattern.split('/').map(str::to_owned).collect(),
            verb: verb.map(str::to_owned),
        };
        pattern.unfit(&path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn what_keeps_a_path_from_a_pattern_is_said_segment_by_segment() {
        let why = |pattern, path| unfit(pattern, None, path).unwrap_or_default();
        assert_eq!(why("/v1/shelves/*/books/*", "/v1/shelves/1/books/2"), "");
        assert_eq!(
            why("/v1/shelves/*", "/v1/books/1"),
            "segment 2 is `books`, not `shelves`"
        );
        assert_eq!(
            why("/v1/shelves/*", "/v1/shelves"),
            "it has 3 segments, the path 2"
        );
        assert_eq!(
            why("/v1/shelves/*", "/v1/shelves/"),
            "segment 3 is ``, not `*`"
        );
        assert_eq!(why("/v1/**", "/v1/a/b/c"), "");
        assert_eq!(why("/v1/**", "/v1"), "");
    }

    #[test]
    fn a_verb_is_told_apart_from_the_segment_before_it() {
        let why = |path| unfit("/v1/*", Some("publish"), path).unwrap_or_default();
        assert_eq!(why("/v1/a:publish"), "");
        assert_eq!(why("/v1/a"), "the path does not end with `:publish`");
        assert_eq!(unfit("/v1/a", Some("publish"), "/v1/a:publish"), None);
    }

    #[test]
    fn hosts_fit_without_port_and_letter_case() {
        let below = HostPattern::Wildcard("example.com".into());
        assert!(fits(&below, "A.Example.com:8080") && !fits(&below, "example.com"));
        assert!(fits(&HostPattern::Exact("a".into()), "A"));
    }
}

//! Another prefix for the path that a route matched by.
//!
//! The router compares decoded segments, so that the prefix is taken off by segments here too: `/%61pi/x` has the
//! prefix `/api` as much as `/api/x` has. What follows it is kept as it was sent.

use mesh_config::model::PathMatch;

/// What stands for the prefix.
#[derive(Debug)]
pub(super) struct NewPrefix {
    /// How many segments the prefix has that is replaced.
    segments: usize,
    /// What replaces it.
    prefix: Box<str>,
}

// === impl NewPrefix ===

impl NewPrefix {
    /// A new prefix, if there is one and the match has one.
    pub(super) fn of(matched: &PathMatch, new: Option<&str>) -> Option<Self> {
        let PathMatch::Prefix(old) = matched else {
            return None;
        };
        let old = old.trim_matches('/');
        Some(Self {
            segments: old.split('/').filter(|_| !old.is_empty()).count(),
            prefix: new?.into(),
        })
    }

    /// The path with the new prefix. Prefix and rest meet in one slash, and it never begins with two: that would be
    /// a host to many readers.
    pub(super) fn in_path(&self, path: &str) -> String {
        let rest = self.rest(path);
        if rest.is_empty() {
            return self.prefix.to_string();
        }
        match self.prefix.strip_suffix('/').unwrap_or(&self.prefix) {
            "" => format!("/{}", rest.trim_start_matches('/')),
            prefix => format!("{prefix}{rest}"),
        }
    }

    /// The path with the new prefix, and the query.
    pub(super) fn in_target(&self, path: &str, query: Option<&str>) -> String {
        let mut target = self.in_path(path);
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        target
    }

    /// What follows the old prefix: nothing, or something that begins with a slash.
    fn rest<'p>(&self, path: &'p str) -> &'p str {
        let mut slashes = path.match_indices('/').map(|(at, _)| at);
        // The slash before the first segment is the first one.
        slashes.nth(self.segments).map_or("", |at| &path[at..])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rewritten(old: &str, new: &str, path: &str) -> String {
        let prefix = NewPrefix::of(&PathMatch::Prefix(old.to_owned()), Some(new)).unwrap();
        prefix.in_path(path)
    }

    #[test]
    fn prefix_and_rest_meet_in_one_slash() {
        for (old, new, path, expected) in [
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("/api", "/v2", "/api/x/y", "/v2/x/y"),
            ("/api", "/v2/", "/api", "/v2/"),
            ("/api", "/v2/", "/api/x", "/v2/x"),
            ("/api/", "/", "/api/x", "/x"),
            ("/api/", "/", "/api/", "/"),
            ("/api", "/", "/api", "/"),
            ("/api", "/", "/api/x", "/x"),
            ("/api", "/", "/api//x", "/x"),
            ("/api", "/", "/api///", "/"),
            ("/api", "/", "/api/x//y", "/x//y"),
            ("/", "/old", "/", "/old/"),
            ("/", "/old/", "/x", "/old/x"),
            ("/a/b", "/c", "/a/b//d", "/c//d"),
        ] {
            assert_eq!(
                rewritten(old, new, path),
                expected,
                "{old} -> {new}: {path}"
            );
        }
    }

    #[test]
    fn the_prefix_is_taken_off_however_it_was_written() {
        assert_eq!(rewritten("/api", "/v2", "/%61pi/%2f?"), "/v2/%2f?");
    }

    #[test]
    fn without_a_prefix_to_replace_there_is_nothing_to_do() {
        assert!(NewPrefix::of(&PathMatch::Any, Some("/x")).is_none());
        assert!(NewPrefix::of(&PathMatch::Prefix("/a".into()), None).is_none());
    }
}

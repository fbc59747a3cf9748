//! The table of all routes: from a host and a raw path to the entries that fit, best first.
//!
//! Order: exact host, longest wildcard, any host; then segment by segment literal before
//! variable before `**` or prefix, with a verb before without one; regular expressions last;
//! then more conditions first; then the order of insertion. Methods, headers and queries are
//! the visitor's: it may decline an entry and go on. A lookup walks a trie with backtracking, so
//! its cost does not depend on the number of routes, and allocates nothing (regular expressions
//! excepted). It refuses nothing: a path that does not start with `/` only fits an expression.

mod host;
mod trie;

pub use host::HostPattern;

use crate::template::{Template, Variable, split_verb};
use host::Hosts;
use smallvec::SmallVec;
use std::ops::{ControlFlow, Range};
use trie::{Lookup, Table};

/// What a path must look like.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// A template of `google.api.http`.
    Template(Template),
    /// Exactly this path.
    Exact(String),
    /// This path and all below it. `/a` takes `/a` and `/a/b`, not `/ab`; `/a/` not `/a` either.
    Prefix(String),
    /// A regular expression that the whole raw path must match.
    Regex(String),
}

/// One entry of the table.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    /// The hosts that it is for; none means any.
    pub hosts: Vec<HostPattern>,
    /// The paths that it is for.
    pub path: PathPattern,
    /// How many other conditions it has; more of them come first among equals.
    pub conditions: usize,
    /// Lets `*` match an empty segment, as in `/counter//like`.
    pub empty_segments: bool,
    /// What a match gives.
    pub value: T,
}

/// Why an entry cannot be part of the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// The host is neither a name, nor `*.name`, nor `*`.
    #[error("`{0}` is not a host: give a name, `*.name` for all below it, or `*`")]
    Host(String),
    /// The path does not start with a slash.
    #[error("`{0}` is not a path: it must start with `/`")]
    Path(String),
    /// The regular expression does not compile.
    #[error("{0}")]
    Regex(String),
}

/// Collects entries; their order is the file's.
#[derive(Debug)]
pub struct RouterBuilder<T> {
    hosts: Hosts<Table>,
    leaves: Vec<Leaf<T>>,
    empty_segments: bool,
}

/// What the table keeps of an entry.
#[derive(Debug)]
struct Leaf<T> {
    value: T,
    conditions: usize,
    empty_segments: bool,
    variables: Box<[Variable]>,
    verb: bool,
}

/// The compiled table.
#[derive(Debug)]
pub struct Router<T> {
    hosts: Hosts<Table>,
    leaves: Vec<Leaf<T>>,
    empty_segments: bool,
}

impl<T> Default for RouterBuilder<T> {
    fn default() -> Self {
        RouterBuilder {
            hosts: Hosts::default(),
            leaves: Vec::new(),
            empty_segments: false,
        }
    }
}

impl<T> RouterBuilder<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry after those that are there.
    pub fn insert(&mut self, entry: Entry<T>) -> Result<(), RouterError> {
        let Entry {
            mut hosts,
            path,
            conditions,
            empty_segments,
            value,
        } = entry;
        if hosts.is_empty() {
            hosts.push(HostPattern::Any);
        }
        let index = self.leaves.len();
        match &path {
            PathPattern::Exact(path) | PathPattern::Prefix(path) if !path.starts_with('/') => {
                return Err(RouterError::Path(path.clone()));
            }
            PathPattern::Regex(pattern) => trie::check_regex(pattern)?,
            _ => {}
        }
        let (variables, verb) = match &path {
            PathPattern::Template(t) => (t.variables().into(), t.verb.is_some()),
            PathPattern::Exact(_) | PathPattern::Prefix(_) | PathPattern::Regex(_) => {
                (Box::default(), false)
            }
        };
        for host in &hosts {
            self.hosts.entry(host).insert(&path, index);
        }
        self.empty_segments |= empty_segments;
        self.leaves.push(Leaf {
            value,
            conditions,
            empty_segments,
            variables,
            verb,
        });
        Ok(())
    }

    /// Compiles the table.
    pub fn build(mut self) -> Result<Router<T>, RouterError> {
        let leaves = &self.leaves;
        // Insertion order is already there; a stable sort keeps it among equals.
        let rank = |index: &usize| std::cmp::Reverse(leaves.get(*index).map(|l| l.conditions));
        for table in self.hosts.tables_mut() {
            table.finish(&rank)?;
        }
        Ok(Router {
            hosts: self.hosts,
            leaves: self.leaves,
            empty_segments: self.empty_segments,
        })
    }
}

impl<T> Router<T> {
    /// Visits the entries that fit, best first, until the visitor breaks with a result.
    ///
    /// `host` is the request's authority (a port and the letter case do not matter), `path` the
    /// raw path without the query. One entry may come twice if it lists several hosts that fit.
    pub fn find<'r, B>(
        &'r self,
        host: &str,
        path: &str,
        mut visit: impl FnMut(&'r T, &Match<'_>) -> ControlFlow<B>,
    ) -> Option<B> {
        let cut = Cut::new(path);
        let lookup = Lookup::new(&cut, self.empty_segments);
        let mut found = |index: usize, passed_empty: bool| {
            let Some(leaf) = self.leaves.get(index) else {
                return ControlFlow::Continue(());
            };
            if passed_empty && !leaf.empty_segments {
                return ControlFlow::Continue(());
            }
            visit(
                &leaf.value,
                &Match {
                    cut: &cut,
                    variables: &leaf.variables,
                    verb: leaf.verb,
                },
            )
        };
        let searched = self
            .hosts
            .visit(host, |table| lookup.run(table, &mut found));
        match searched {
            ControlFlow::Break(result) => Some(result),
            ControlFlow::Continue(()) => None,
        }
    }

    /// The values of all entries, in their order of insertion.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.leaves.iter().map(|leaf| &leaf.value)
    }
}

/// A raw path, cut at its slashes, once per lookup.
#[derive(Debug)]
pub(crate) struct Cut<'p> {
    pub(crate) path: &'p str,
    /// Where each segment starts and ends.
    pub(crate) segments: SmallVec<[(u32, u32); 24]>,
    /// What follows the last colon of the last segment.
    pub(crate) verb: Option<&'p str>,
}

impl<'p> Cut<'p> {
    fn new(path: &'p str) -> Cut<'p> {
        let mut segments = SmallVec::new();
        // Offsets are 32 bits wide; no edge lets a path of 4 GiB in.
        if path.starts_with('/') && u32::try_from(path.len()).is_ok() {
            let mut start = 1;
            for slash in memchr::memchr_iter(b'/', path.as_bytes()).skip(1) {
                segments.push((start as u32, slash as u32));
                start = slash + 1;
            }
            segments.push((start as u32, path.len() as u32));
        }
        Cut {
            path,
            segments,
            verb: split_verb(path).1,
        }
    }

    /// Where the path ends, with or without its verb.
    pub(crate) fn end(&self, without_verb: bool) -> u32 {
        let verb = self
            .verb
            .filter(|_| without_verb)
            .map_or(0, |verb| verb.len() + 1);
        (self.path.len() - verb) as u32
    }

    pub(crate) fn segment(&self, index: usize) -> &'p str {
        let range = self
            .segments
            .get(index)
            .map(|&(start, end)| start as usize..end as usize);
        range
            .and_then(|range| self.path.get(range))
            .unwrap_or_default()
    }
}

/// An entry that fits a path; the visitor takes the captures if it wants the entry.
#[derive(Debug)]
pub struct Match<'m> {
    cut: &'m Cut<'m>,
    variables: &'m [Variable],
    verb: bool,
}

impl<'m> Match<'m> {
    /// Where the template's variables stand in the path.
    pub fn captures(&self) -> Captures {
        let path_end = self.cut.end(self.verb);
        let segments = &self.cut.segments;
        let capture = |variable: &Variable| {
            let start = segments.get(variable.start).map_or(path_end, |s| s.0);
            let last = variable
                .end
                .checked_sub(1)
                .and_then(|index| segments.get(index));
            let end = match last {
                Some(last) if !variable.rest => last.1.min(path_end),
                _ => path_end,
            };
            (start.min(end), end)
        };
        Captures(self.variables.iter().map(capture).collect())
    }
}

/// Where the variables of a template stand in a raw path, in the template's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captures(SmallVec<[(u32, u32); 6]>);

impl Captures {
    /// How many variables there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the template has no variables.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The range of a variable in the path.
    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        self.0
            .get(index)
            .map(|&(start, end)| start as usize..end as usize)
    }

    /// The raw text of a variable; `path` is the path that was looked up.
    pub fn raw<'p>(&self, path: &'p str, index: usize) -> Option<&'p str> {
        path.get(self.range(index)?)
    }
}

#[cfg(test)]
mod tests;

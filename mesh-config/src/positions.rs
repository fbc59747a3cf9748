//! The line of every key, for those who find problems in a snapshot later on: descriptors that do not hold a
//! service, profiles that do not compile.

use std::fmt;
use std::sync::Arc;

use crate::origins::Origins;
use crate::problem::Problem;
use crate::yaml::{Kind, Node};

/// Lines of the keys of one configuration.
#[derive(Clone)]
pub struct Positions {
    origins: Origins,
    root: Arc<Node>,
}

impl Positions {
    pub(crate) fn new(origins: Origins, root: Node) -> Self {
        Self {
            origins,
            root: Arc::new(root),
        }
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// The line of a path such as `routes[3].transcode.services[0]`; of the nearest part that exists, if it
    /// does not.
    #[must_use]
    pub fn line(&self, path: &str) -> u32 {
        let mut node = &*self.root;
        for step in steps(path) {
            let next = match (&node.kind, &step) {
                (Kind::Map(entries), Step::Key(key)) => entries
                    .iter()
                    .find(|entry| entry.key == *key)
                    .map(|entry| &entry.value),
                (Kind::List(items), Step::Index(index)) => items.get(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line
    }

    /// A problem of that path, with its file and line.
    #[must_use]
    pub fn problem(&self, path: impl Into<String>, why: impl Into<String>) -> Problem {
        let path = path.into();
        Problem {
            file: Arc::clone(self.origins.of(&path)),
            line: self.line(&path),
            path,
            why: why.into(),
        }
    }
}

/// Without the values: what came from the environment may be secret.
impl fmt::Debug for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Positions({})", self.origins.base())
    }
}

enum Step {
    Key(String),
    Index(usize),
}

/// The top-level key that a path begins with.
pub(crate) fn first_key(path: &str) -> Option<String> {
    match steps(path).into_iter().next() {
        Some(Step::Key(key)) => Some(key),
        Some(Step::Index(_)) | None => None,
    }
}

/// The steps of a path: words between dots, numbers in brackets, other keys quoted in brackets.
fn steps(mut path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    while !path.is_empty() {
        path = path.strip_prefix('.').unwrap_or(path);
        let (step, rest) = if let Some(inner) = path.strip_prefix("[\"") {
            let (key, rest) = inner.split_once("\"]").unwrap_or((inner, ""));
            (
                Step::Key(key.replace("\\\"", "\"").replace("\\\\", "\\")),
                rest,
            )
        } else if let Some(inner) = path.strip_prefix('[') {
            let (index, rest) = inner.split_once(']').unwrap_or((inner, ""));
            match index.parse() {
                Ok(index) => (Step::Index(index), rest),
                Err(_) => break,
            }
        } else {
            let end = path.find(['.', '[']).unwrap_or(path.len());
            let (key, rest) = path.split_at(end);
            (Step::Key(key.to_owned()), rest)
        };
        steps.push(step);
        path = rest;
    }
    steps
}

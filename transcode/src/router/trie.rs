//! The paths of one host: a trie of segments, and the regular expressions after it.
//!
//! Every node is reached by one sequence of literals and `*`, so a lookup visits each node at
//! most once however it backtracks. A path whose last segment holds a colon is tried with its
//! verb cut off and whole. Literals are compared percent-decoded.

use super::{Cut, PathPattern, RouterError};
use crate::percent::{self, Decoded, Mode};
use crate::template::{Segment, Template, lenient};
use regex::RegexSet;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::ControlFlow;

/// All entries of one host.
#[derive(Debug)]
pub(super) struct Table {
    nodes: Vec<Node>,
    regexes: Vec<(String, usize)>,
    set: RegexSet,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            nodes: vec![Node::default()],
            regexes: Vec::new(),
            set: RegexSet::empty(),
        }
    }
}

type Literals<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<SegmentHasher>>;

#[derive(Debug, Default)]
struct Node {
    literals: Literals<usize>,
    variable: Option<usize>,
    plain: Ends,
    verbs: Literals<Ends>,
}

/// The entries that stop at a node, by their index.
#[derive(Debug, Default)]
struct Ends {
    /// Those whose pattern ends here.
    here: Vec<usize>,
    /// Those that take whatever follows; with the number of segments that must follow.
    rest: Vec<(usize, usize)>,
}

impl Table {
    pub(super) fn insert(&mut self, path: &PathPattern, index: usize) {
        match path {
            PathPattern::Template(template) => {
                let verb = template.verb.as_deref();
                self.insert_segments(&template.segments, verb, index);
            }
            PathPattern::Exact(path) => {
                let exact = Template::exact(path);
                self.insert_segments(&exact.segments, exact.verb.as_deref(), index);
            }
            PathPattern::Prefix(path) => {
                let inner = path.strip_prefix('/').unwrap_or(path);
                // `/a/` asks for the slash, so for one more segment, be it empty.
                let (inner, at_least) = match inner.strip_suffix('/') {
                    Some(inner) => (inner, 1),
                    None if inner.is_empty() => (inner, 1),
                    None => (inner, 0),
                };
                let mut node = 0;
                for literal in inner.split('/').filter(|_| !inner.is_empty()) {
                    node = self.literal(node, &lenient(literal));
                }
                self.nodes[node].plain.rest.push((index, at_least));
            }
            PathPattern::Regex(pattern) => self.regexes.push((pattern.clone(), index)),
        }
    }

    fn insert_segments(&mut self, segments: &[Segment], verb: Option<&[u8]>, index: usize) {
        let mut node = 0;
        let mut rest = false;
        for segment in segments {
            match segment {
                Segment::Literal(text) => node = self.literal(node, text),
                Segment::One => node = self.variable(node),
                Segment::Rest => rest = true,
            }
        }
        let node = &mut self.nodes[node];
        let ends = match verb {
            Some(verb) => node.verbs.entry(verb.into()).or_default(),
            None => &mut node.plain,
        };
        if rest {
            ends.rest.push((index, 0));
        } else {
            ends.here.push(index);
        }
    }

    fn literal(&mut self, node: usize, text: &[u8]) -> usize {
        let next = self.nodes.len();
        let child = *self.nodes[node].literals.entry(text.into()).or_insert(next);
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    fn variable(&mut self, node: usize) -> usize {
        let next = self.nodes.len();
        let child = *self.nodes[node].variable.get_or_insert(next);
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Sorts what ends at the same place by `rank`, and compiles the expressions.
    pub(super) fn finish<R: Ord>(
        &mut self,
        rank: &impl Fn(&usize) -> R,
    ) -> Result<(), RouterError> {
        for node in &mut self.nodes {
            for ends in node
                .verbs
                .values_mut()
                .chain(std::iter::once(&mut node.plain))
            {
                ends.here.sort_by_key(rank);
                ends.rest.sort_by_key(|(index, _)| rank(index));
            }
        }
        self.regexes.sort_by_key(|(_, index)| rank(index));
        let whole = self.regexes.iter().map(|(pattern, _)| whole(pattern));
        self.set = RegexSet::new(whole).map_err(|error| RouterError::Regex(error.to_string()))?;
        Ok(())
    }
}

/// Whether the expression compiles by itself, so that an error names the right one.
pub(super) fn check_regex(pattern: &str) -> Result<(), RouterError> {
    // Compiled bare first: the message then shows the pattern as it was written.
    let bare = regex::Regex::new(pattern);
    let checked = bare.and_then(|_| regex::Regex::new(&whole(pattern)));
    checked
        .map(|_| ())
        .map_err(|error| RouterError::Regex(error.to_string()))
}

fn whole(pattern: &str) -> String {
    format!(r"\A(?:{pattern})\z")
}

/// What one lookup knows of its path.
pub(super) struct Lookup<'l> {
    cut: &'l Cut<'l>,
    /// Some entry lets `*` match an empty segment.
    empty_segments: bool,
    /// The last segment without its verb, and the verb.
    stripped: Option<(&'l str, &'l [u8])>,
    encoded: bool,
}

impl<'l> Lookup<'l> {
    pub(super) fn new(cut: &'l Cut<'l>, empty_segments: bool) -> Lookup<'l> {
        let stripped = cut.verb.filter(|_| !cut.segments.is_empty()).map(|verb| {
            let last = cut.segment(cut.segments.len() - 1);
            let bare = last.get(..last.len() - verb.len() - 1).unwrap_or_default();
            (bare, verb.as_bytes())
        });
        let encoded = memchr::memchr(b'%', cut.path.as_bytes()).is_some();
        Lookup {
            cut,
            empty_segments,
            stripped,
            encoded,
        }
    }

    /// Visits the entries that fit, best first, with whether a `*` took an empty segment.
    pub(super) fn run<B>(
        &self,
        table: &Table,
        visit: &mut impl FnMut(usize, bool) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if !self.cut.segments.is_empty() {
            self.walk(table, 0, 0, false, visit)?;
        }
        if !table.regexes.is_empty() {
            for index in table.set.matches(self.cut.path) {
                if let Some((_, entry)) = table.regexes.get(index) {
                    visit(*entry, false)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn walk<B>(
        &self,
        table: &Table,
        node: usize,
        depth: usize,
        passed_empty: bool,
        visit: &mut impl FnMut(usize, bool) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if depth + 1 == self.cut.segments.len() {
            return self.last(table, node, passed_empty, visit);
        }
        let Some(here) = table.nodes.get(node) else {
            return ControlFlow::Continue(());
        };
        let segment = self.cut.segment(depth);
        if let Some(child) = self.literal(here, segment) {
            self.walk(table, child, depth + 1, passed_empty, visit)?;
        }
        if let Some(child) = here.variable.filter(|_| self.one(segment)) {
            self.walk(
                table,
                child,
                depth + 1,
                passed_empty || segment.is_empty(),
                visit,
            )?;
        }
        self.rest(here, self.cut.segments.len() - depth, passed_empty, visit)
    }

    /// The last segment: literals, then a variable, then the rest; with the verb cut off first.
    fn last<B>(
        &self,
        table: &Table,
        node: usize,
        passed_empty: bool,
        visit: &mut impl FnMut(usize, bool) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some(here) = table.nodes.get(node) else {
            return ControlFlow::Continue(());
        };
        let full = self.cut.segment(self.cut.segments.len() - 1);
        let bare = self.stripped.map(|(bare, _)| bare);
        let literal = |text| {
            self.literal(here, text)
                .and_then(|child| table.nodes.get(child))
        };
        let ends = [
            bare.and_then(literal)
                .and_then(|child| self.with_verb(child)),
            literal(full).map(|child| &child.plain),
        ];
        self.finish(ends, [passed_empty; 2], visit)?;

        let variable = here.variable.and_then(|child| table.nodes.get(child));
        let ends = [
            variable
                .filter(|_| bare.is_some_and(|b| self.one(b)))
                .and_then(|c| self.with_verb(c)),
            variable
                .filter(|_| self.one(full))
                .map(|child| &child.plain),
        ];
        let empty = |text: &str| passed_empty || text.is_empty();
        self.finish(ends, [empty(bare.unwrap_or_default()), empty(full)], visit)?;
        self.rest(here, 1, passed_empty, visit)
    }

    /// What ends after the last segment; `**` may still stand for nothing.
    fn finish<B>(
        &self,
        ends: [Option<&Ends>; 2],
        passed_empty: [bool; 2],
        visit: &mut impl FnMut(usize, bool) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (ends, empty) in ends.iter().zip(passed_empty) {
            for index in ends.iter().flat_map(|ends| &ends.here) {
                visit(*index, empty)?;
            }
        }
        for (ends, empty) in ends.iter().zip(passed_empty) {
            self.take_rest(*ends, 0, empty, visit)?;
        }
        ControlFlow::Continue(())
    }

    fn rest<B>(
        &self,
        node: &Node,
        left: usize,
        passed_empty: bool,
        visit: &mut impl FnMut(usize, bool) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.take_rest(self.with_verb(node), left, passed_empty, visit)?;
        self.take_rest(Some(&node.plain), left, passed_empty, visit)
    }

    fn take_rest<B>(
        &self,
        ends: Option<&Ends>,
        left: usize,
        passed_empty: bool,
        visit: &mut impl FnMut(usize, bool) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (index, at_least) in ends.iter().flat_map(|ends| &ends.rest) {
            if left >= *at_least {
                visit(*index, passed_empty)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether `*` takes this segment.
    fn one(&self, segment: &str) -> bool {
        !segment.is_empty() || self.empty_segments
    }

    fn with_verb<'n>(&self, node: &'n Node) -> Option<&'n Ends> {
        let (_, verb) = self.stripped.filter(|_| !node.verbs.is_empty())?;
        self.lookup(&node.verbs, verb)
    }

    fn literal(&self, node: &Node, segment: &str) -> Option<usize> {
        if node.literals.is_empty() {
            return None;
        }
        self.lookup(&node.literals, segment.as_bytes()).copied()
    }

    fn lookup<'n, V>(&self, literals: &'n Literals<V>, raw: &[u8]) -> Option<&'n V> {
        if !self.encoded {
            return literals.get(raw);
        }
        let mut decoded = Decoded::new();
        percent::decode_bytes(raw, Mode::Segment, &mut decoded).ok()?;
        literals.get(decoded.as_slice())
    }
}

/// A fast hash for short keys that come from the configuration: nobody can choose them to
/// collide, so it need not resist that.
#[derive(Debug, Default)]
struct SegmentHasher(u64);

impl Hasher for SegmentHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let word = rest
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes its bits from both ends.
        self.0 ^ self.0.rotate_left(32)
    }
}

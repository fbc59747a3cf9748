//! Builds the tree from the parser's events. It keeps its own stack, so that depth is a number to be compared
//! and not a stack overflow.

use std::collections::HashMap;
use std::mem;

use saphyr_parser::{Event, ScalarStyle, Tag};

use super::{Entry, Kind, MAX_COPIED, MAX_DEPTH, Node, Scalar, key_path};
use crate::env::Environment;
use crate::report::Report;

pub(super) struct Builder<'a> {
    environment: Environment<'a>,
    report: &'a mut Report,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    copied: usize,
    root: Option<Node>,
}

/// A list or map whose end has not been seen.
struct Frame {
    line: u32,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(MapFrame),
}

#[derive(Default)]
struct MapFrame {
    entries: Vec<Entry>,
    /// Each key with its line.
    keys: HashMap<String, u32>,
    /// The key whose value comes next, with its line.
    pending: Option<(String, u32)>,
    /// What `<<` brings.
    merged: Vec<Node>,
}

/// A node that can be repeated.
struct Anchor {
    node: Node,
    depth: usize,
    bytes: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(environment: Environment<'a>, report: &'a mut Report) -> Self {
        Self {
            environment,
            report,
            stack: Vec::new(),
            anchors: HashMap::new(),
            copied: 0,
            root: None,
        }
    }

    /// Reports a problem of the place where the builder is.
    pub(super) fn refuse(&mut self, line: u32, why: String) {
        let path = self.path();
        self.report.add(line, &path, why);
    }

    /// Takes one event of a node; `None`: reading on makes no sense.
    pub(super) fn event(&mut self, event: Event<'_>, line: u32) -> Option<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !self.is_text(tag.as_deref(), line);
                if self.wants_key() {
                    self.key(&text, line);
                    return Some(());
                }
                let kind = self.scalar(&text, plain, line);
                self.complete(Node { line, kind }, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_text(tag.as_deref(), line);
                self.open(Content::List(Vec::new()), anchor, line)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.is_text(tag.as_deref(), line);
                self.open(Content::Map(MapFrame::default()), anchor, line)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, line)?,
            _ => {}
        }
        Some(())
    }

    /// The whole tree, once there are no more events.
    pub(super) fn finish(self) -> Option<Node> {
        if self.root.as_ref().is_none_or(Node::is_null) {
            self.report.add(
                0,
                "",
                "it is empty: it needs `clusters` and `routes` at least".to_owned(),
            );
            return None;
        }
        self.root
    }

    fn open(&mut self, content: Content, anchor: usize, line: u32) -> Option<()> {
        if self.wants_key() {
            self.refuse(
                line,
                "a key must be plain text, not a list or a map".to_owned(),
            );
            return None;
        }
        if self.stack.len() >= MAX_DEPTH {
            self.refuse(line, format!("it is nested deeper than {MAX_DEPTH} levels"));
            return None;
        }
        self.stack.push(Frame {
            line,
            anchor,
            content,
        });
        Some(())
    }

    fn close(&mut self) {
        let Some(frame) = self.stack.pop() else {
            return;
        };
        let kind = match frame.content {
            Content::List(items) => Kind::List(items),
            Content::Map(map) => Kind::Map(map.finish()),
        };
        self.complete(
            Node {
                line: frame.line,
                kind,
            },
            frame.anchor,
        );
    }

    fn alias(&mut self, id: usize, line: u32) -> Option<()> {
        if self.wants_key() {
            self.refuse(line, "a key must be plain text, not an alias".to_owned());
            return None;
        }
        let Some(anchor) = self.anchors.get(&id) else {
            self.refuse(line, "an anchor cannot hold an alias of itself".to_owned());
            return None;
        };
        self.copied += anchor.bytes;
        if self.copied > MAX_COPIED || self.stack.len() + anchor.depth > MAX_DEPTH {
            self.refuse(
                line,
                "its aliases multiply the text too much: write less of it by aliases".to_owned(),
            );
            return None;
        }
        let node = anchor.node.clone();
        self.complete(node, 0);
        Some(())
    }

    /// A node is whole: it goes into the list or map that is open, and under its anchor.
    fn complete(&mut self, mut node: Node, anchor: usize) {
        if anchor > 0 {
            let (depth, bytes) = measure(&node);
            self.anchors.insert(
                anchor,
                Anchor {
                    node: node.clone(),
                    depth,
                    bytes,
                },
            );
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map(map) => {
                let Some((key, line)) = map.pending.take() else {
                    return;
                };
                if key == "<<" {
                    self.merge(node, line);
                    return;
                }
                node.line = line;
                if !map.keys.contains_key(&key) {
                    map.keys.insert(key.clone(), line);
                    map.entries.push(Entry { key, value: node });
                }
            }
        }
    }

    fn key(&mut self, text: &str, line: u32) {
        let Some(Frame {
            content: Content::Map(map),
            ..
        }) = self.stack.last_mut()
        else {
            return;
        };
        map.pending = Some((text.to_owned(), line));
        if let Some(first) = map.keys.get(text).copied() {
            self.refuse(
                line,
                format!("this key is already on line {first}: keep one of the two"),
            );
        }
    }

    fn merge(&mut self, node: Node, line: u32) {
        let sources = match node.kind {
            Kind::Map(_) => vec![node],
            Kind::List(items) => items,
            Kind::Scalar(_) | Kind::Broken => Vec::new(),
        };
        let only_maps =
            !sources.is_empty() && sources.iter().all(|s| matches!(s.kind, Kind::Map(_)));
        if !only_maps {
            self.refuse(
                line,
                "`<<` takes a map or a list of maps, by alias".to_owned(),
            );
        } else if let Some(Frame {
            content: Content::Map(map),
            ..
        }) = self.stack.last_mut()
        {
            map.merged.extend(sources);
        }
    }

    fn scalar(&mut self, text: &str, plain: bool, line: u32) -> Kind {
        match self.environment.expand(text) {
            Ok(None) => Kind::Scalar(Scalar {
                text: text.to_owned(),
                plain,
                expanded: false,
            }),
            Ok(Some(text)) => Kind::Scalar(Scalar {
                text,
                plain,
                expanded: true,
            }),
            Err(why) => {
                self.refuse(line, why);
                Kind::Broken
            }
        }
    }

    /// Whether a tag says that the scalar is text. Other tags than `!!str` and `!` are problems.
    fn is_text(&mut self, tag: Option<&Tag>, line: u32) -> bool {
        let Some(tag) = tag else { return false };
        let text = (tag.is_yaml_core_schema() && tag.suffix == "str")
            || (tag.handle.is_empty() && tag.suffix == "!");
        if !text {
            self.refuse(
                line,
                format!("the tag `{tag}` means nothing here: remove it"),
            );
        }
        text
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { content: Content::Map(map), .. }) if map.pending.is_none())
    }

    fn path(&self) -> String {
        self.stack
            .iter()
            .fold(String::new(), |path, frame| match &frame.content {
                Content::List(items) => format!("{path}[{}]", items.len()),
                Content::Map(MapFrame {
                    pending: Some((key, _)),
                    ..
                }) => key_path(&path, key),
                Content::Map(_) => path,
            })
    }
}

impl MapFrame {
    /// The entries, with those of `<<` that are not given: earlier ones win.
    fn finish(mut self) -> Vec<Entry> {
        for source in mem::take(&mut self.merged) {
            let Kind::Map(entries) = source.kind else {
                continue;
            };
            for entry in entries {
                if !self.keys.contains_key(&entry.key) {
                    self.keys.insert(entry.key.clone(), entry.value.line);
                    self.entries.push(entry);
                }
            }
        }
        self.entries
    }
}

/// Levels of a node and the memory that a copy of it takes. Called once an anchor; nodes are at most
/// [`MAX_DEPTH`] deep.
fn measure(node: &Node) -> (usize, usize) {
    let children = |sizes: &mut dyn Iterator<Item = (usize, usize)>| {
        sizes.fold((0, 0), |(depth, bytes), (d, b): (usize, usize)| {
            (depth.max(d), bytes + b)
        })
    };
    let (depth, bytes) = match &node.kind {
        Kind::Broken => return (0, size_of::<Node>()),
        Kind::Scalar(scalar) => return (0, size_of::<Node>() + scalar.text.len()),
        Kind::List(items) => children(&mut items.iter().map(measure)),
        Kind::Map(entries) => children(&mut entries.iter().map(|entry| {
            let (depth, bytes) = measure(&entry.value);
            (depth, bytes + size_of::<Entry>() + entry.key.len())
        })),
    };
    (depth + 1, bytes + size_of::<Node>())
}

//! From text to a tree of nodes that know their lines. YAML 1.2, of which JSON is a part.
//!
//! Anchors, aliases and merge keys (`<<`) work, within bounds. Refused: duplicate keys, keys that are not plain
//! text, tags other than `!!str`, several documents, nesting deeper than [`MAX_DEPTH`], text longer than
//! [`MAX_TEXT`], aliases that would multiply the text beyond [`MAX_COPIED`].
//! Spec: <https://yaml.org/spec/1.2.2/>, merge keys: <https://yaml.org/type/merge.html>.

mod builder;
mod node;

pub(crate) use node::{Entry, Kind, Node, Scalar, key_path};

use saphyr_parser::{Event, Parser};

use crate::env::Environment;
use crate::report::Report;
use builder::Builder;

/// The longest text that is read, in bytes.
pub(crate) const MAX_TEXT: usize = 4 << 20;
/// How deep maps and lists may be nested.
pub(crate) const MAX_DEPTH: usize = 64;
/// How much memory the copies that aliases make may take, in bytes.
pub(crate) const MAX_COPIED: usize = 8 << 20;

/// Parses `text`; what is wrong goes to `report`. `None`: there is nothing that could be looked at further.
pub(crate) fn parse(text: &str, environment: Environment<'_>, report: &mut Report) -> Option<Node> {
    if text.len() > MAX_TEXT {
        report.add(
            0,
            "",
            format!("the text is longer than {} MiB", MAX_TEXT >> 20),
        );
        return None;
    }
    let mut builder = Builder::new(environment, report);
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(next) = parser.next_event() {
        let (event, span) = match next {
            Ok(next) => next,
            Err(error) => {
                builder.refuse(
                    line(&error.marker().line()),
                    format!("this is not YAML: {}", error.info()),
                );
                return None;
            }
        };
        let line = line(&span.start.line());
        match event {
            Event::DocumentStart(_) => documents += 1,
            Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            _ if documents > 1 => {
                builder.refuse(
                    line,
                    "there is a second document: a configuration is one".to_owned(),
                );
                return None;
            }
            node => builder.event(node, line)?,
        }
    }
    builder.finish()
}

fn line(line: &usize) -> u32 {
    u32::try_from(*line).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

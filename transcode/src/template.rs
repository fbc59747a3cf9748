//! Path templates of `google.api.http`: `/v1/{name=shelves/*/books/*}:publish`.
//!
//! The grammar is the one in `google/api/http.proto` ("path template syntax"): `*`, a final
//! `**`, literals, variables with nested field paths and patterns, and a verb. What it does not
//! allow is refused with the place and the reason: nested variables, `**` before the end, empty
//! segments (but `/` alone is the root), a field that is bound twice. Literals may be
//! percent-encoded or not; they are compared decoded.

use crate::percent::{self, Decoded, Mode};
use std::borrow::Cow;
use std::fmt;

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pub(crate) segments: Vec<Segment>,
    variables: Vec<Variable>,
    pub(crate) verb: Option<Box<[u8]>>,
}

/// One segment of a pattern, variables taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// This text, percent-decoded.
    Literal(Box<[u8]>),
    /// `*`: exactly one segment.
    One,
    /// `**`: all that is left, also nothing.
    Rest,
}

/// A variable of a template: the field that it binds, and the segments that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The field path, taken apart at its dots.
    pub field: Vec<String>,
    /// The first segment that it takes.
    pub(crate) start: usize,
    /// The segment after its last one.
    pub(crate) end: usize,
    /// It may take several segments, so `%2F` stays encoded.
    pub(crate) multi: bool,
    /// It ends with `**`, so it takes all that is left.
    pub(crate) rest: bool,
}

impl Variable {
    /// The field path as the template spells it.
    pub fn name(&self) -> String {
        self.field.join(".")
    }

    /// The value that a raw part of a path stands for; the error says what is wrong with it.
    pub fn decode<'a>(&self, raw: &'a str) -> Result<Cow<'a, str>, String> {
        let mut space = Decoded::new();
        let mode = self.mode();
        match percent::decode(raw, mode, &mut space) {
            Ok(text) if text.len() == raw.len() => Ok(Cow::Borrowed(raw)),
            Ok(text) => Ok(Cow::Owned(text.to_owned())),
            Err(why) => Err(format!("`{raw}` {why}")),
        }
    }

    /// How a captured text is decoded.
    pub(crate) fn mode(&self) -> Mode {
        if self.multi {
            Mode::Segments
        } else {
            Mode::Segment
        }
    }
}

/// Why a text is not a path template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{template}` at character {at}: {why}")]
pub struct TemplateError {
    /// The template as it was given.
    pub template: String,
    /// The place, counted in characters from 1.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        Parser::new(text)
            .template()
            .map_err(|(at, why)| TemplateError {
                template: text.to_owned(),
                at: text.get(..at).unwrap_or(text).chars().count() + 1,
                why,
            })
    }

    /// The template that matches exactly this path; what looks like syntax is plain text.
    pub fn exact(path: &str) -> Template {
        let (path_part, verb) = split_verb(path);
        let segments = path_part.strip_prefix('/').unwrap_or(path_part);
        Template {
            text: path.to_owned(),
            segments: segments
                .split('/')
                .map(|s| Segment::Literal(lenient(s)))
                .collect(),
            variables: Vec::new(),
            verb: verb.map(lenient),
        }
    }

    /// The template as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it takes, whatever its variables are called: two templates with the same one clash.
    pub(crate) fn pattern(&self) -> (Vec<Segment>, Option<Box<[u8]>>) {
        (self.segments.clone(), self.verb.clone())
    }

    /// What stands behind the colon at its end.
    #[must_use]
    pub fn verb(&self) -> Option<String> {
        let verb = self.verb.as_deref()?;
        Some(String::from_utf8_lossy(verb).into_owned())
    }

    /// The template that takes the same paths with a slash at their end; none where that is a part of them, or stands behind a verb.
    #[must_use]
    pub fn with_slash(&self) -> Option<Template> {
        let root =
            matches!(self.segments.as_slice(), [Segment::Literal(empty)] if empty.is_empty());
        let open = matches!(self.segments.last(), Some(Segment::Rest));
        if root || open || self.verb.is_some() {
            return None;
        }
        let mut template = self.clone();
        template.text.push('/');
        template.segments.push(Segment::Literal(Box::default()));
        Some(template)
    }

    /// The same text for all templates that take the same paths: `/v1/shelves/*` of `/v1/{name=shelves/*}`.
    #[must_use]
    pub fn nameless(&self) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => format!("/{}", String::from_utf8_lossy(text)),
            Segment::One => "/*".to_owned(),
            Segment::Rest => "/**".to_owned(),
        });
        let verb = self.verb.as_deref().map(String::from_utf8_lossy);
        segments
            .chain(verb.map(|verb| format!(":{verb}")))
            .collect()
    }

    /// The variables, in the order in which they stand; a match's captures follow it.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits a path at the last colon of its last segment: the verb, if the template has one.
pub(crate) fn split_verb(path: &str) -> (&str, Option<&str>) {
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    match path.get(last..).and_then(|segment| segment.rfind(':')) {
        Some(colon) => (&path[..last + colon], path.get(last + colon + 1..)),
        None => (path, None),
    }
}

/// Decodes a literal; one with a broken encoding stands for itself.
pub(crate) fn lenient(literal: &str) -> Box<[u8]> {
    let mut space = Decoded::new();
    match percent::decode_bytes(literal.as_bytes(), Mode::Segment, &mut space) {
        Ok(()) => space.into_vec().into_boxed_slice(),
        Err(_) => literal.as_bytes().into(),
    }
}

type Fault = (usize, String);

struct Parser<'a> {
    text: &'a str,
    at: usize,
    segments: Vec<Segment>,
    variables: Vec<Variable>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parser<'a> {
        Parser {
            text,
            at: 0,
            segments: Vec::new(),
            variables: Vec::new(),
        }
    }

    fn template(mut self) -> Result<Template, Fault> {
        if !self.eat('/') {
            return self.fault("a template starts with `/`");
        }
        if self.rest().is_empty() {
            self.segments.push(Segment::Literal(Box::default()));
            return Ok(self.finish(None));
        }
        loop {
            let at = self.at;
            if matches!(self.segments.last(), Some(Segment::Rest)) {
                return Err((at, "nothing but a verb may follow `**`".into()));
            }
            if self.peek() == Some('{') {
                self.variable()?;
            } else {
                self.segment(true)?;
            }
            if !self.eat('/') {
                break;
            }
        }
        let verb = if self.eat(':') {
            Some(self.verb()?)
        } else {
            None
        };
        match self.peek() {
            None => Ok(self.finish(verb)),
            Some('}') => self.fault("`}` without a `{` before it"),
            Some(other) => self.fault(&format!("expected `/`, `:` or the end, not `{other}`")),
        }
    }

    fn finish(self, verb: Option<Box<[u8]>>) -> Template {
        Template {
            text: self.text.to_owned(),
            segments: self.segments,
            variables: self.variables,
            verb,
        }
    }

    /// `{field.path}` or `{field.path=segments}`.
    fn variable(&mut self) -> Result<(), Fault> {
        let opened = self.at;
        self.eat('{');
        let start = self.segments.len();
        let field = self.field_path()?;
        if self.variables.iter().any(|other| other.field == field) {
            return Err((opened, format!("`{}` is bound twice", field.join("."))));
        }
        if self.eat('=') {
            self.pattern()?;
        } else {
            self.segments.push(Segment::One);
        }
        if !self.eat('}') {
            return match self.peek() {
                None => Err((opened, "this `{` is never closed".into())),
                Some(other) => self.fault(&format!("expected `}}`, not `{other}`")),
            };
        }
        let end = self.segments.len();
        let rest = matches!(self.segments.last(), Some(Segment::Rest));
        let multi = rest || end - start > 1;
        self.variables.push(Variable {
            field,
            start,
            end,
            multi,
            rest,
        });
        Ok(())
    }

    /// The segments after a variable's `=`.
    fn pattern(&mut self) -> Result<(), Fault> {
        loop {
            if matches!(self.segments.last(), Some(Segment::Rest)) {
                return self.fault("nothing but a verb may follow `**`");
            }
            if self.peek() == Some('{') {
                return self.fault("a variable cannot hold another variable");
            }
            self.segment(false)?;
            if !self.eat('/') {
                return Ok(());
            }
        }
    }

    fn field_path(&mut self) -> Result<Vec<String>, Fault> {
        let mut path = Vec::new();
        loop {
            let start = self.at;
            let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            if name.is_empty() {
                return self.fault("expected the name of a field");
            }
            if name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err((
                    start,
                    "the name of a field cannot start with a digit".into(),
                ));
            }
            path.push(name.to_owned());
            if !self.eat('.') {
                return Ok(path);
            }
        }
    }

    /// `*`, `**` or a literal; `top` if a verb may follow it.
    fn segment(&mut self, top: bool) -> Result<(), Fault> {
        let start = self.at;
        let stars = self.take_while(|c| c == '*').len();
        if stars > 0 {
            if !matches!(self.peek(), None | Some('/' | ':' | '}')) {
                return self.fault("`*` stands for a whole segment, not for a part of one");
            }
            self.segments.push(match stars {
                1 => Segment::One,
                2 => Segment::Rest,
                _ => return Err((start, "there are only `*` and `**`".into())),
            });
            return Ok(());
        }
        let mut literal = self.take_while(|c| !"/{}*?#".contains(c) && !c.is_whitespace());
        if top && self.peek().is_none() {
            // The last segment: what follows its last colon is the verb.
            literal = literal
                .rfind(':')
                .map_or(literal, |colon| &literal[..colon]);
            self.at = start + literal.len();
        }
        match self.peek() {
            Some('{') => self.fault("a variable stands for whole segments, not for a part of one"),
            Some('*') => self.fault("`*` stands for a whole segment, not for a part of one"),
            Some('?' | '#') => self.fault("a template is a path, without a query or a fragment"),
            _ if literal.is_empty() => self.fault("a segment cannot be empty"),
            _ => {
                let bytes = decode_literal(start, literal)?;
                self.segments.push(Segment::Literal(bytes));
                Ok(())
            }
        }
    }

    fn verb(&mut self) -> Result<Box<[u8]>, Fault> {
        let start = self.at;
        let verb = self.take_while(|c| !"/{}*?#:".contains(c) && !c.is_whitespace());
        if let Some(other) = self.peek() {
            return self.fault(&format!("a verb cannot hold `{other}`"));
        }
        if verb.is_empty() {
            return self.fault("expected a verb after `:`");
        }
        decode_literal(start, verb)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn fault<T>(&self, why: &str) -> Result<T, Fault> {
        Err((self.at, why.to_owned()))
    }
}

fn decode_literal(at: usize, literal: &str) -> Result<Box<[u8]>, Fault> {
    let mut space = Decoded::new();
    match percent::decode_bytes(literal.as_bytes(), Mode::Segment, &mut space) {
        Ok(()) => Ok(space.into_vec().into_boxed_slice()),
        Err(why) => Err((at, format!("`{literal}` {why}"))),
    }
}

#[cfg(test)]
mod tests;

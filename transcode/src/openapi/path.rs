//! Templates as OpenAPI's paths: each `*` is a parameter of its own, as parameters there hold no slash.

use serde_json::{Value, json};

use super::{constraints, scalar};
use crate::binding::Binding;
use crate::template::Segment;

/// A path with the names of its parameters.
#[derive(Clone, Debug)]
pub(super) struct Path {
    parts: Vec<Part>,
    verb: String,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Parameter(Parameter),
}

#[derive(Clone, Debug)]
struct Parameter {
    name: String,
    /// It may hold slashes.
    rest: bool,
    /// Which variable it is of, if it is all of it.
    whole: Option<usize>,
    /// Which variable it is only a part of.
    part_of: Option<String>,
}

impl Path {
    pub(super) fn of(binding: &Binding) -> Self {
        let template = &binding.template;
        let mut parts: Vec<Part> = Vec::new();
        for (at, segment) in template.segments.iter().enumerate() {
            let rest = match segment {
                Segment::Literal(text) => {
                    parts.push(Part::Literal(encoded(text)));
                    continue;
                }
                Segment::One => false,
                Segment::Rest => true,
            };
            let mut variables = template.variables().iter().enumerate();
            let owner = variables.find(|(_, one)| (one.start..one.end).contains(&at));
            let name = match owner {
                // One of several parts is called as what stands before it: `shelves/{shelves}/books/{books}`.
                Some((_, one)) if one.end - one.start > 1 => before(&parts),
                Some((_, one)) => Some(one.name().replace('.', "_")),
                None => before(&parts),
            };
            let name = name.unwrap_or_else(|| "segment".to_owned());
            let whole = owner.filter(|(_, one)| one.end - one.start == 1);
            let whole = whole.map(|(index, _)| index);
            let taken = |name: &str| {
                let mut names = parts.iter().filter_map(Part::name);
                names.any(|taken| taken == name)
            };
            let mut numbered = (2..).map(|number| format!("{name}_{number}"));
            let name = match taken(&name) {
                false => name.clone(),
                true => numbered.find(|name| !taken(name)).unwrap_or_default(),
            };
            let part_of = owner.filter(|_| whole.is_none());
            let part_of = part_of.map(|(_, one)| one.name());
            let parameter = Parameter {
                name,
                rest,
                whole,
                part_of,
            };
            parts.push(Part::Parameter(parameter));
        }
        let verb = template
            .verb
            .as_deref()
            .map(|verb| format!(":{}", encoded(verb)));
        Self {
            parts,
            verb: verb.unwrap_or_default(),
        }
    }

    /// The same with the names that another one of this shape has: they are one item of the document.
    pub(super) fn named_as(mut self, first: &Self) -> Self {
        for (part, named) in self.parts.iter_mut().zip(&first.parts) {
            if let (Part::Parameter(parameter), Part::Parameter(named)) = (part, named) {
                parameter.name.clone_from(&named.name);
            }
        }
        self
    }

    /// What two paths that differ in names alone have in common.
    pub(super) fn shape(&self) -> String {
        self.written(|_| "{}".to_owned())
    }

    pub(super) fn text(&self) -> String {
        self.written(|parameter| format!("{{{}}}", parameter.name))
    }

    fn written(&self, name: impl Fn(&Parameter) -> String) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Literal(text) => format!("/{text}"),
            Part::Parameter(parameter) => format!("/{}", name(parameter)),
        });
        parts.collect::<String>() + &self.verb
    }

    pub(super) fn parameters(&self, binding: &Binding) -> Vec<Value> {
        let parameters = self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Parameter(parameter) => Some(parameter.described(binding)),
        });
        parameters.collect()
    }
}

impl Parameter {
    fn described(&self, binding: &Binding) -> Value {
        let schema = binding.codec.schema();
        let bound = self.whole.and_then(|index| binding.variables.get(index));
        let field = bound.map(|bound| bound.field.field(schema));
        let mut of = match field {
            Some(field) => constraints::of_value(field, scalar::text(schema, field)),
            None => json!({ "type": "string" }),
        };
        if of["type"] == "string" && of.get("enum").is_none() && of.get("minLength").is_none() {
            of["minLength"] = 1.into();
        }
        let mut words = Vec::new();
        if let Some(field) = field {
            binding.checks.describe(field, &mut of);
            words.push(field.comment.clone());
        }
        words.extend(
            self.part_of
                .as_ref()
                .map(|name| format!("A part of `{name}`.")),
        );
        if self.rest {
            words.push("It may hold several segments, with slashes between them.".to_owned());
        }
        words.retain(|word| !word.is_empty());
        let parameter = json!({ "name": self.name, "in": "path", "required": true, "schema": of });
        super::described(parameter, &words.join("\n\n"))
    }
}

impl Part {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Parameter(parameter) => Some(&parameter.name),
        }
    }
}

/// The literal that the path ends with so far.
fn before(parts: &[Part]) -> Option<String> {
    match parts.last()? {
        Part::Literal(text) => Some(text.replace(|c: char| !c.is_ascii_alphanumeric(), "_")),
        Part::Parameter(_) => None,
    }
}

/// A literal as it stands in a path.
fn encoded(text: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    let parts = text.iter().map(|byte| match plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    parts.collect()
}

//! One way to call one gRPC method over HTTP: a rule of `google.api.http` compiled against a
//! schema, or `POST /package.Service/Method` for methods without one.
//!
//! Refuses at compile time, all problems at once: broken templates, variables that name no
//! single field with a text form, a `body` or `response_body` that is no field of the message,
//! rules without a pattern, nested `additional_bindings`. Spec: `google/api/http.proto`.

use std::fmt;
use std::sync::Arc;

use crate::checks::Checks;
use crate::codec::Codec;
use crate::error::WireError;
use crate::errors::Errors;
use crate::http_body::Place;
use crate::path::{FieldPath, FieldPathError};
use crate::percent::Mode;
use crate::query::{Query, Taken};
use crate::schema::{
    Cardinality, HttpPattern, HttpRule, Idempotency, MessageId, Method, Schema, Service,
};
use crate::shape::{Shape, ShapeNode};
use crate::template::{Template, Variable};

/// A compiled rule: everything between an HTTP request and the bytes of a gRPC call.
#[derive(Debug)]
pub struct Binding {
    /// `GET`, `POST`, ...; `*` takes any method.
    pub http_method: String,
    /// The paths that it takes.
    pub template: Template,
    /// Full name of the service.
    pub service: String,
    /// Name of the method within the service.
    pub method: String,
    /// `/package.Service/Method`.
    pub grpc_path: String,
    /// Request message.
    pub input: MessageId,
    /// Response message.
    pub output: MessageId,
    /// The client sends a stream.
    pub client_streaming: bool,
    /// The server sends a stream.
    pub server_streaming: bool,
    /// What the author says of calling it twice.
    pub idempotency: Idempotency,
    /// The metadata key by which the service knows a repeated call, and answers it with the first answer.
    pub dedupe: Option<String>,
    /// `*` also matches an empty segment of the path.
    pub empty_segments: bool,
    /// How failures of its calls look.
    pub errors: Arc<Errors>,
    pub(crate) content_type: Box<str>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) variables: Box<[Bound]>,
    pub(crate) query: Query,
    pub(crate) body: Body,
    pub(crate) response: Response,
    pub(crate) upload: Option<Place>,
    pub(crate) download: Option<Place>,
    pub(crate) checks: Checks,
}

/// What the HTTP request's body is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Nothing.
    None,
    /// The message, but for what the path binds.
    Whole,
    /// One field of it.
    Field(FieldPath),
}

/// What the HTTP response's body is.
#[derive(Debug)]
pub(crate) enum Response {
    /// The message.
    Whole,
    /// One field of it.
    Field(FieldPath),
    /// The message in the profile's shape.
    Shaped(Shape, Box<ShapeNode>),
}

/// A variable of the path and the field that it binds.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) field: FieldPath,
    pub(crate) mode: Mode,
}

impl Binding {
    /// `package.Service/Method`, as profiles name it.
    pub fn full_name(&self) -> &str {
        self.grpc_path.strip_prefix('/').unwrap_or(&self.grpc_path)
    }

    /// The content type of its answers.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// What its messages are read and written by.
    pub fn codec(&self) -> &Arc<Codec> {
        &self.codec
    }

    /// Whether it reads the request's body.
    pub fn takes_body(&self) -> bool {
        !matches!(self.body, Body::None)
    }

    /// The fields that the path binds, in the order of the template's variables.
    pub fn path_fields(&self) -> impl Iterator<Item = &FieldPath> {
        self.variables.iter().map(|bound| &bound.field)
    }

    /// The top-level fields that the query may hold.
    pub fn query_fields(&self) -> impl Iterator<Item = &FieldPath> {
        self.query.parameters()
    }

    /// Appends the response's body, in the profile's shape, to `json`.
    pub fn decode_response(&self, wire: &[u8], json: &mut Vec<u8>) -> Result<(), WireError> {
        match &self.response {
            Response::Whole => self.codec.decode(self.output, wire, json),
            Response::Field(field) => self.codec.decode_field(field, wire, json),
            Response::Shaped(shape, _) => self.codec.decode_shape(shape, wire, json),
        }
    }
}

/// The part of a binding that its rule decides.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) http_method: String,
    pub(crate) template: Template,
    pub(crate) variables: Box<[Bound]>,
    pub(crate) body: Body,
    pub(crate) response_body: Option<FieldPath>,
}

/// The rules of a method: its annotation's, and the one for its gRPC path if that is wanted too.
pub(crate) fn rules(
    schema: &Schema,
    service: &Service,
    method: &Method,
    unannotated: bool,
    faults: &mut Vec<String>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    let before = faults.len();
    if let Some(rule) = &method.http_rule {
        rules.extend(compile(schema, method, rule, faults));
        for extra in &rule.additional_bindings {
            if !extra.additional_bindings.is_empty() {
                faults.push("additional_bindings cannot have additional_bindings".to_owned());
            }
            rules.extend(compile(schema, method, extra, faults));
        }
    }
    if unannotated {
        rules.push(Rule {
            http_method: "POST".to_owned(),
            template: Template::exact(&format!("/{}/{}", service.full_name, method.name)),
            variables: Box::default(),
            body: Body::Whole,
            response_body: None,
        });
    }
    for fault in faults.iter_mut().skip(before) {
        *fault = format!("{}.{}: {fault}", service.full_name, method.name);
    }
    rules
}

fn compile(
    schema: &Schema,
    method: &Method,
    rule: &HttpRule,
    faults: &mut Vec<String>,
) -> Option<Rule> {
    let before = faults.len();
    let (http_method, path) = match &rule.pattern {
        Some(HttpPattern::Get(path)) => ("GET", path),
        Some(HttpPattern::Put(path)) => ("PUT", path),
        Some(HttpPattern::Post(path)) => ("POST", path),
        Some(HttpPattern::Delete(path)) => ("DELETE", path),
        Some(HttpPattern::Patch(path)) => ("PATCH", path),
        Some(HttpPattern::Custom(custom)) => (custom.kind.as_str(), &custom.path),
        None => {
            faults.push("its google.api.http has neither a method nor a path".to_owned());
            return None;
        }
    };
    if !is_token(http_method) {
        faults.push(format!("`{path}`: `{http_method}` is not an HTTP method"));
    }
    let template = Template::parse(path)
        .map_err(|fault| faults.push(fault.to_string()))
        .ok();
    let mut fault = |why: String| faults.push(format!("`{path}`: {why}"));
    let variables = template.iter().flat_map(Template::variables);
    let variables = variables
        .filter_map(|variable| {
            bind(schema, method.input, variable)
                .map_err(&mut fault)
                .ok()
        })
        .collect();
    let body = match rule.body.as_str() {
        "" => Body::None,
        "*" => Body::Whole,
        name => match top_level(schema, method.input, name) {
            Ok(field) => Body::Field(field),
            Err(why) => {
                fault(format!("body: {why}"));
                Body::None
            }
        },
    };
    let response_body = match rule.response_body.as_str() {
        "" => None,
        name => top_level(schema, method.output, name)
            .map_err(|why| fault(format!("response_body: {why}")))
            .ok(),
    };
    let template = template.filter(|_| faults.len() == before)?;
    Some(Rule {
        http_method: http_method.to_owned(),
        template,
        variables,
        body,
        response_body,
    })
}

/// A method is a token of RFC 9110, or `*`, which is one too.
fn is_token(method: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !method.is_empty() && method.bytes().all(token)
}

fn bind(schema: &Schema, input: MessageId, variable: &Variable) -> Result<Bound, String> {
    let name = variable.name();
    let field = FieldPath::resolve(schema, input, &name)
        .map_err(|error| format!("variable `{name}`: {}", explain(schema, &error)))?;
    let why = if field.field(schema).cardinality != Cardinality::Single {
        "is repeated, and a path holds one value"
    } else if !field.takes_text(schema) {
        "is a message, and a path holds plain values; name a field inside it"
    } else {
        return Ok(Bound {
            field,
            mode: variable.mode(),
        });
    };
    Err(format!(
        "variable `{name}`: {} {why}",
        field.field(schema).name
    ))
}

fn top_level(schema: &Schema, message: MessageId, name: &str) -> Result<FieldPath, String> {
    if name.contains('.') {
        return Err(format!(
            "`{name}` is inside another field; only a field of the message itself can be it"
        ));
    }
    FieldPath::resolve(schema, message, name).map_err(|error| explain(schema, &error))
}

/// What is wrong with a path, with the fields that are there.
pub(crate) fn explain(schema: &Schema, error: &FieldPathError) -> String {
    let FieldPathError::NoSuchField { message, .. } = error else {
        return error.to_string();
    };
    let fields = schema
        .message(message)
        .map(|id| &schema.message_info(id).fields);
    let names: Vec<&str> = fields
        .into_iter()
        .flatten()
        .map(|field| field.name.as_str())
        .collect();
    if names.is_empty() {
        return format!("{error}; it has none");
    }
    format!("{error}; it has {}", names.join(", "))
}

/// Everything that the query of a rule must leave alone.
pub(crate) fn taken(rule: &Rule) -> Taken {
    Taken {
        path: rule
            .variables
            .iter()
            .map(|bound| bound.field.clone())
            .collect(),
        body: match &rule.body {
            Body::Field(field) => Some(field.clone()),
            Body::None | Body::Whole => None,
        },
        whole: matches!(rule.body, Body::Whole),
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.http_method, self.template)
    }
}

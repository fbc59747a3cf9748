//! OpenAPI 3.1 of bindings: paths and parameters of their templates, bodies and answers as the route's JSON options write them,
//! failures as its profile words them, and comments as descriptions.
//!
//! Requests are described as they are taken, answers as they are written, so one message may stand in `components` twice. What
//! OpenAPI cannot say is said in words or as an extension: methods that it has no name for, and variables that take several
//! segments. Left out: a second route for the same path and method, which only hosts or headers tell apart.
//!
//! Spec: <https://spec.openapis.org/oas/v3.1.0>

mod constraints;
mod failures;
mod message;
mod parameters;
mod path;
mod scalar;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::binding::{Binding, Body, Response};
use crate::options::Dialect;
use crate::schema::Method;
use failures::Failures;
use message::{Direction, Messages};
use path::Path;

/// A binding, and what its route adds to it.
#[derive(Debug)]
pub struct Operation<'a> {
    /// The binding.
    pub binding: &'a Binding,
    /// The methods that it takes; none: any.
    pub methods: Vec<String>,
    /// The name of its route.
    pub route: &'a str,
    /// The content type of a stream's messages where the client does not say what it wants.
    pub stream: Option<&'static str>,
    /// The route lets in only so many requests.
    pub limited: bool,
}

/// What a document says of itself.
#[derive(Debug)]
pub struct Info {
    /// Its title.
    pub title: String,
    /// Its version.
    pub version: String,
    /// Where requests go.
    pub servers: Vec<String>,
}

/// The methods that a path item may have.
const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];
/// What stands for any method.
const ANY: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "PATCH"];
/// The media types that a stream can be had in.
const STREAMS: [&str; 3] = ["application/x-ndjson", "application/json", EVENTS];
const EVENTS: &str = "text/event-stream";

/// The document of some operations, in their order. All are of one schema.
pub fn document<'a>(info: &Info, operations: impl IntoIterator<Item = Operation<'a>>) -> Value {
    let mut writer = Writer::default();
    for operation in operations {
        writer.add(&operation);
    }
    let servers = info.servers.iter().map(|url| json!({ "url": url }));
    let servers: Vec<Value> = servers.collect();
    let tags = writer.tags.into_iter();
    let tags = tags.map(|(name, text)| described(json!({ "name": name }), &text));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": info.title, "version": info.version },
        "paths": writer.paths,
        "components": {
            "schemas": writer.messages.into_schemas(), "responses": writer.failures.into_responses(),
        },
        "tags": tags.collect::<Vec<_>>(),
    });
    if !servers.is_empty() {
        document["servers"] = servers.into();
    }
    document
}

#[derive(Default)]
struct Writer {
    paths: Map<String, Value>,
    /// The first path of each shape: the others have its names.
    known: BTreeMap<String, Path>,
    ids: BTreeSet<String>,
    tags: BTreeMap<String, String>,
    messages: Messages,
    failures: Failures,
}

impl Writer {
    fn add(&mut self, operation: &Operation<'_>) {
        let binding = operation.binding;
        let schema = binding.codec.schema();
        let path = Path::of(binding);
        let first = self
            .known
            .entry(path.shape())
            .or_insert_with(|| path.clone());
        let path = path.named_as(first);
        let described = self.operation(operation, &path);
        let service = schema.service(&binding.service);
        let comment = service.map(|service| service.comment.clone());
        let tag = self.tags.entry(binding.service.clone());
        tag.or_insert(comment.unwrap_or_default());
        let item = self.paths.entry(path.text()).or_insert_with(|| json!({}));
        for method in methods(operation) {
            if item.get(&method).is_none() {
                let mut described = described.clone();
                let id = unique(&mut self.ids, binding, &method);
                described["operationId"] = id.into();
                item[&method] = described;
            }
        }
    }

    fn operation(&mut self, operation: &Operation<'_>, path: &Path) -> Value {
        let binding = operation.binding;
        let comment = method(binding).map(|method| method.comment.clone());
        let mut comment = comment.unwrap_or_default();
        if let Some(key) = &binding.dedupe {
            let words = "of an earlier call gets that call's answer, and changes nothing";
            comment = format!("{comment}\n\nA call with the header `{key}` {words}.");
        }
        let mut described = titled(json!({ "tags": [binding.service] }), comment.trim());
        let mut parameters = path.parameters(binding);
        parameters.extend(parameters::query(binding));
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if let Some(body) = self.body(binding) {
            described["requestBody"] = body;
        }
        let mut responses = Map::new();
        responses.insert("200".to_owned(), self.answer(operation));
        responses.extend(self.failures.of(operation));
        described["responses"] = responses.into();
        described["x-highpress-route"] = operation.route.into();
        described["x-grpc-method"] = binding.full_name().into();
        described
    }

    fn body(&mut self, binding: &Binding) -> Option<Value> {
        let of = match (&binding.body, binding.upload) {
            (Body::None, _) => return None,
            (_, Some(_)) => return Some(json!({ "content": { "*/*": {} } })),
            (Body::Whole, None) => self.messages.request(binding),
            (Body::Field(path), None) => {
                let field = path.field(binding.codec.schema());
                let codec = &binding.codec;
                self.messages.field(codec, field, Direction::Request)
            }
        };
        let content = match binding.client_streaming {
            true => json!({
                "application/x-ndjson": { "schema": of },
                "application/json": { "schema": { "type": "array", "items": of } },
            }),
            false => json!({ "application/json": { "schema": of } }),
        };
        Some(json!({ "required": needs_body(binding, &of), "content": content }))
    }

    fn answer(&mut self, operation: &Operation<'_>) -> Value {
        let binding = operation.binding;
        let description = match (binding.download.is_some(), binding.server_streaming) {
            (true, _) => "What the service sends, of the type that it says.",
            (false, true) => {
                "The messages as they come; a failure in their midst is the last of them."
            }
            (false, false) => "The answer.",
        };
        let mut answer = json!({ "description": description, "content": self.content(operation) });
        if binding.dedupe.is_some() {
            answer["headers"] = json!({ "Idempotency-Replayed": {
                "description": "`true` if this is the answer that an earlier call with the same key got.",
                "schema": { "type": "string" },
            } });
        }
        answer
    }

    fn content(&mut self, operation: &Operation<'_>) -> Value {
        let binding = operation.binding;
        if binding.download.is_some() {
            return json!({ "*/*": {} });
        }
        let codec = &binding.codec;
        let of = match &binding.response {
            Response::Whole => self
                .messages
                .reference(codec, binding.output, Direction::Response),
            Response::Field(path) => {
                let field = path.field(codec.schema());
                self.messages.field(codec, field, Direction::Response)
            }
            Response::Shaped(_, node) => self.messages.shape(codec, binding.output, node),
        };
        if !binding.server_streaming {
            return json!({ (binding.content_type()): { "schema": of } });
        }
        let failure = failures::any(binding);
        // The first one is what clients get that do not ask for any.
        let others = STREAMS.into_iter();
        let others = others.filter(|kind| Some(*kind) != operation.stream);
        let kinds = operation.stream.into_iter().chain(others);
        let kinds = kinds.map(|kind| (kind.to_owned(), stream(kind, &of, &failure)));
        kinds.collect::<Map<_, _>>().into()
    }
}

/// What stands in a stream of a media type: the whole array, or each line or event.
fn stream(kind: &str, of: &Value, failure: &Value) -> Value {
    let told =
        json!({ "type": "object", "properties": { "error": failure }, "required": ["error"] });
    let item = json!({ "anyOf": [of, told] });
    let schema = match kind {
        "application/json" => json!({ "type": "array", "items": item }),
        EVENTS => json!({
            "type": "object",
            "properties": {
                "id": { "type": "string", "description": "The number of the message." },
                "event": { "type": "string", "enum": ["message", "error"] },
                "data": {
                    "type": "string", "contentMediaType": "application/json",
                    "contentSchema": { "anyOf": [of, failure] },
                },
            },
        }),
        _ => item,
    };
    json!({ "schema": schema })
}

/// Whether a request without a body is refused.
fn needs_body(binding: &Binding, of: &Value) -> bool {
    let options = binding.codec.options();
    let some = of.get("required").is_some() || has_required(binding);
    !binding.client_streaming && (options.dialect == Dialect::Plain || some)
}

/// Whether the message in the body has fields that must be given.
fn has_required(binding: &Binding) -> bool {
    let message = binding.codec.schema().message_info(binding.input);
    let bound = |index: usize| {
        let mut variables = binding.variables.iter();
        variables.any(|bound| matches!(bound.field.steps(), [(_, at)] if *at == index))
    };
    matches!(binding.body, Body::Whole)
        && message.well_known.is_none()
        && message
            .fields
            .iter()
            .any(|field| constraints::is_required(field) && !bound(field.index))
}

fn method(binding: &Binding) -> Option<&Method> {
    let service = binding.codec.schema().service(&binding.service)?;
    let mut methods = service.methods.iter();
    methods.find(|one| one.name == binding.method)
}

/// The names of a binding's methods in a path item; those that it has no name for are extensions.
fn methods(operation: &Operation<'_>) -> Vec<String> {
    let own = operation.methods.iter().map(String::as_str);
    let any = ANY.into_iter().filter(|_| operation.methods.is_empty());
    let lower = own.chain(any).map(str::to_ascii_lowercase);
    let named = |method: String| match METHODS.contains(&method.as_str()) {
        true => method,
        false => format!("x-{method}"),
    };
    lower.map(named).collect()
}

/// An id that no other operation has.
fn unique(ids: &mut BTreeSet<String>, binding: &Binding, method: &str) -> String {
    let base = format!("{}_{}", binding.service.replace('.', "_"), binding.method);
    let numbered = (2..).map(|number| format!("{base}_{method}_{number}"));
    let names = [base.clone(), format!("{base}_{method}")].into_iter();
    let mut names = names.chain(numbered);
    let id = names.find(|name| !ids.contains(name)).unwrap_or(base);
    ids.insert(id.clone());
    id
}

/// The same with a comment, if there is one. Its lines begin with the space that stands behind `//`.
fn described(mut value: Value, comment: &str) -> Value {
    if !comment.is_empty() {
        let lines = comment
            .lines()
            .map(|line| line.strip_prefix(' ').unwrap_or(line));
        value["description"] = lines.collect::<Vec<_>>().join("\n").into();
    }
    value
}

/// The same with a comment, and with the first sentence of it as the summary.
fn titled(value: Value, comment: &str) -> Value {
    let mut value = described(value, comment);
    let first = comment.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    let line = words.join(" ");
    let sentence = line.split(". ").next().unwrap_or_default();
    if !sentence.is_empty() {
        value["summary"] = sentence.trim_end_matches('.').into();
    }
    value
}

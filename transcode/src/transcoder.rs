//! From a schema, services and a profile to bindings: the compile step of every transcoded route.
//!
//! Codecs are shared between routes with the same options. Refused, all problems at once:
//! services that the schema does not have, services from which no path follows, annotations that
//! do not fit their messages, profiles that name methods or fields that are not there.

mod check;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::binding::{self, Binding, Response, Rule};
use crate::checks::Checks;
use crate::codec::Codec;
use crate::errors::{self, Errors};
use crate::http_body;
use crate::options::JsonOptions;
use crate::profile::{JsonChoices, Profile, ProfileError, Target};
use crate::query::Query;
use crate::schema::{MessageId, Method, Schema, Service};
use crate::shape::ShapeNode;
use crate::template::Segment;

/// Compiles bindings against one schema.
#[derive(Debug)]
pub struct Transcoder {
    schema: Arc<Schema>,
    /// More services may become known: what a profile says of others is no mistake.
    growing: bool,
    codecs: HashMap<JsonOptions, Arc<Codec>>,
}

/// What a route says of transcoding.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// Full names of the services.
    pub services: &'r [&'r str],
    /// Its profile.
    pub profile: &'r Profile,
    /// Its own choices; the rest is the profile's.
    pub json: JsonChoices,
    /// Every method is also taken at `POST /package.Service/Method`.
    pub unannotated: bool,
}

/// Why a route cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A service of the route, by its place in the list.
    #[error("services[{index}]: {why}")]
    Service {
        /// Its place in the list.
        index: usize,
        /// What is wrong with it, with the method's name.
        why: String,
    },
    /// The profile does not fit the messages.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl Transcoder {
    /// For the messages and services of this schema.
    pub fn new(schema: Arc<Schema>) -> Transcoder {
        Transcoder {
            schema,
            growing: false,
            codecs: HashMap::new(),
        }
    }

    /// The same while more services may become known: a profile may name some that are not there yet.
    #[must_use]
    pub fn growing(self, growing: bool) -> Transcoder {
        Transcoder { growing, ..self }
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The codec for these options.
    pub fn codec(&mut self, options: JsonOptions) -> Arc<Codec> {
        let schema = &self.schema;
        let codec = self.codecs.entry(options);
        Arc::clone(codec.or_insert_with(|| Arc::new(Codec::new(Arc::clone(schema), options))))
    }

    /// The bindings of a route, in the order of services, methods and rules.
    pub fn bindings(&mut self, request: &Request<'_>) -> Result<Vec<Binding>, Vec<CompileError>> {
        let schema = Arc::clone(&self.schema);
        let codec = self.codec(request.profile.options(request.json));
        let mut compiler = Compiler {
            profile: request.profile,
            codec,
            faults: Vec::new(),
        };
        let mut bindings = Vec::new();
        let mut faults = Vec::new();
        let mut owners = Owners::default();
        for (index, name) in request.services.iter().enumerate() {
            let mut fault = |why| faults.push(CompileError::Service { index, why });
            let Some(service) = schema.service(name) else {
                fault(check::unknown_service(&schema, name));
                continue;
            };
            let (before, mut whys) = (bindings.len(), Vec::new());
            for method in &service.methods {
                let rules =
                    binding::rules(&schema, service, method, request.unannotated, &mut whys);
                for rule in rules {
                    owners.claim(service, method, &rule, &mut whys);
                    bindings.push(compiler.binding(service, method, rule));
                }
            }
            if bindings.len() == before && whys.is_empty() {
                whys.push(format!(
                    "no method of {name} has a google.api.http annotation; set `unannotated: true` to reach them at POST /{name}/METHOD"
                ));
            }
            whys.into_iter().for_each(&mut fault);
        }
        let profile = compiler.faults.into_iter().chain(check::profile(
            &schema,
            request.profile,
            self.growing,
        ));
        for fault in profile.map(CompileError::Profile) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        if faults.is_empty() {
            Ok(bindings)
        } else {
            Err(faults)
        }
    }

    /// What a profile says of messages and methods that is not so; also of methods no route has.
    pub fn check(&self, profile: &Profile) -> Vec<ProfileError> {
        check::profile(&self.schema, profile, self.growing)
    }

    /// How failures look where a route has this profile but no binding takes the request.
    pub fn errors(&mut self, profile: &Profile) -> Errors {
        let codec = self.codec(profile.options(JsonChoices::default()));
        errors_for(profile, None, codec)
    }
}

/// Which method each HTTP method and path of a route belongs to.
#[derive(Default)]
struct Owners(HashMap<(String, Pattern), String>);

type Pattern = (Vec<Segment>, Option<Box<[u8]>>);

impl Owners {
    /// Notes a rule; a second one for the same requests would never be reached.
    fn claim(&mut self, service: &Service, method: &Method, rule: &Rule, faults: &mut Vec<String>) {
        let name = format!("{}.{}", service.full_name, method.name);
        let key = (rule.http_method.clone(), rule.template.pattern());
        match self.0.entry(key) {
            Entry::Occupied(owner) => faults.push(format!(
                "{name}: `{}`: {} requests for such paths are taken by {} already",
                rule.template,
                rule.http_method,
                owner.get(),
            )),
            Entry::Vacant(free) => {
                free.insert(name);
            }
        }
    }
}

/// Compiles the bindings of one route.
struct Compiler<'c> {
    profile: &'c Profile,
    codec: Arc<Codec>,
    faults: Vec<ProfileError>,
}

impl Compiler<'_> {
    fn binding(&mut self, service: &Service, method: &Method, rule: Rule) -> Binding {
        let codec = Arc::clone(&self.codec);
        let target = Target {
            service: &service.full_name,
            method: &method.name,
            path: rule.template.text(),
            http_method: &rule.http_method,
        };
        let errors = errors_for(self.profile, Some(target), Arc::clone(&codec));
        let response = self.response(method, &rule, target);
        let checks = self.checks(method.input, target);
        let schema = self.codec.schema();
        let upload = http_body::of_request(schema, method.input, &rule.body);
        let download = http_body::of_response(schema, method.output, &response);
        let query = Query::new(&codec, method.input, binding::taken(&rule));
        Binding {
            service: service.full_name.clone(),
            method: method.name.clone(),
            grpc_path: format!("/{}/{}", service.full_name, method.name),
            input: method.input,
            output: method.output,
            client_streaming: method.client_streaming,
            server_streaming: method.server_streaming,
            idempotency: method.idempotency,
            dedupe: method.dedupe.clone(),
            empty_segments: self.profile.empty_segments,
            errors: Arc::new(errors),
            content_type: self.profile.content_type.as_str().into(),
            http_method: rule.http_method,
            template: rule.template,
            variables: rule.variables,
            body: rule.body,
            codec,
            query,
            response,
            upload,
            download,
            checks,
        }
    }

    fn response(&mut self, method: &Method, rule: &Rule, target: Target<'_>) -> Response {
        let schema = self.codec.schema();
        let shapes = &self.profile.success;
        let shape = shapes.iter().find(|shape| shape.when.holds(Some(target)));
        let Some(shape) = shape.filter(|shape| shape.body != ShapeNode::Whole) else {
            return rule
                .response_body
                .clone()
                .map_or(Response::Whole, Response::Field);
        };
        let at = format!("{}.body", shape.at);
        let before = self.faults.len();
        check::shape(schema, method.output, &shape.body, &at, &mut self.faults);
        // `$` is what the rule answers with: the message, or one field of it.
        let field = rule
            .response_body
            .as_ref()
            .map(|path| path.field(schema).name.clone());
        let node = match field {
            Some(field) => replace_whole(shape.body.clone(), &field),
            None => shape.body.clone(),
        };
        match self.codec.shape(method.output, &node) {
            Ok(shape) => Response::Shaped(shape, Box::new(node)),
            Err(error) => {
                if self.faults.len() == before {
                    self.faults.push(ProfileError {
                        path: at,
                        why: error.to_string(),
                    });
                }
                Response::Whole
            }
        }
    }

    fn checks(&mut self, input: MessageId, target: Target<'_>) -> Checks {
        let message = self.codec.schema().message_info(input);
        let mut checks = Checks::default();
        for rule in self
            .profile
            .checks
            .iter()
            .filter(|rule| rule.when.holds(Some(target)))
        {
            for (name, demand) in &rule.fields {
                let added = match message.field_by_any_name(name) {
                    Some(field) => checks
                        .add(field, demand)
                        .map_err(|why| format!("{name} {why}")),
                    None => Err(check::no_field(self.codec.schema(), input, name)),
                };
                if let Err(why) = added {
                    self.faults.push(ProfileError {
                        path: format!("{}.fields.{name}", rule.at),
                        why,
                    });
                }
            }
        }
        checks
    }
}

fn errors_for(profile: &Profile, target: Option<Target<'_>>, codec: Arc<Codec>) -> Errors {
    let rules = profile.errors.iter().filter(|rule| rule.when.holds(target));
    let rules = rules.map(|rule| errors::Rule {
        cause: rule.cause.clone(),
        status: rule.status,
        body: Arc::clone(&rule.body),
    });
    let method = target.map(|target| format!("{}/{}", target.service, target.method));
    let method = method.unwrap_or_default();
    Errors::new(
        rules.collect(),
        &profile.content_type,
        profile.problem_json,
        &method,
        codec,
    )
}

/// In a shape, `$` becomes this field, but not inside elements, where it is the element.
fn replace_whole(node: ShapeNode, field: &str) -> ShapeNode {
    match node {
        ShapeNode::Whole => ShapeNode::Field(field.to_owned()),
        ShapeNode::Object(members) => {
            let replace = |(name, node)| (name, replace_whole(node, field));
            ShapeNode::Object(members.into_iter().map(replace).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;

//! What a profile says of methods and fields, checked against a schema: every mistake with its place in the profile.

use crate::binding;
use crate::path::FieldPath;
use crate::profile::{Profile, ProfileError, When};
use crate::schema::{Cardinality, Kind, MessageId, Method, Schema};
use crate::shape::ShapeNode;

/// Methods and fields that a profile names.
pub(super) fn profile(schema: &Schema, profile: &Profile, growing: bool) -> Vec<ProfileError> {
    let mut faults = Vec::new();
    let whens = profile.success.iter().map(|rule| (&rule.when, &rule.at));
    let whens = whens.chain(profile.errors.iter().map(|rule| (&rule.when, &rule.at)));
    for (when, at) in whens.chain(profile.checks.iter().map(|rule| (&rule.when, &rule.at))) {
        methods(schema, profile.builtin || growing, when, at, &mut faults);
    }
    for rule in &profile.success {
        for method in named_methods(schema, &rule.when) {
            shape(
                schema,
                method.output,
                &rule.body,
                &format!("{}.body", rule.at),
                &mut faults,
            );
        }
    }
    faults
}

fn methods(schema: &Schema, may_lack: bool, when: &When, at: &str, faults: &mut Vec<ProfileError>) {
    for pattern in &when.methods {
        let why = match (schema.service(&pattern.service), &pattern.method) {
            // A built-in profile speaks of services that a configuration need not have, and others may still be learnt.
            (None, _) if may_lack => continue,
            (None, _) => unknown_service(schema, &pattern.service),
            (Some(_), None) => continue,
            (Some(service), Some(name)) => {
                if service.methods.iter().any(|method| method.name == *name) {
                    continue;
                }
                let names: Vec<&str> = service.methods.iter().map(|m| m.name.as_str()).collect();
                format!(
                    "{} has no method {name}; it has {}",
                    service.full_name,
                    names.join(", ")
                )
            }
        };
        faults.push(ProfileError {
            path: format!("{at}.when.method"),
            why,
        });
    }
}

fn named_methods<'s>(schema: &'s Schema, when: &'s When) -> impl Iterator<Item = &'s Method> {
    when.methods.iter().filter_map(|pattern| {
        let service = schema.service(&pattern.service)?;
        let name = pattern.method.as_ref()?;
        service.methods.iter().find(|method| method.name == *name)
    })
}

/// Checks a shape against a message, with the place of each mistake.
pub(super) fn shape(
    schema: &Schema,
    message: MessageId,
    node: &ShapeNode,
    at: &str,
    faults: &mut Vec<ProfileError>,
) {
    let resolved = |path: &str| {
        FieldPath::resolve(schema, message, path).map_err(|error| binding::explain(schema, &error))
    };
    let why = match node {
        ShapeNode::Json(_) | ShapeNode::Whole => None,
        ShapeNode::Object(members) => {
            for (name, node) in members {
                shape(schema, message, node, &format!("{at}.{name}"), faults);
            }
            None
        }
        ShapeNode::Field(path) => resolved(path).err(),
        ShapeNode::Count(path) => match resolved(path) {
            Ok(field) if field.field(schema).cardinality == Cardinality::Single => {
                Some(format!("{path} is one value, so it cannot be counted"))
            }
            counted => counted.err(),
        },
        ShapeNode::Each(path, inner) => match resolved(path).map(|path| path.field(schema)) {
            Ok(field) => match field.kind {
                Kind::Message(id) if field.cardinality != Cardinality::Map => {
                    shape(schema, id, inner, &format!("{at}.$as"), faults);
                    None
                }
                _ => Some(format!(
                    "{path} holds no messages, so its elements have no fields"
                )),
            },
            Err(why) => Some(why),
        },
    };
    let path = at.to_owned();
    faults.extend(why.map(|why| ProfileError { path, why }));
}

pub(super) fn no_field(schema: &Schema, message: MessageId, name: &str) -> String {
    match FieldPath::resolve(schema, message, name) {
        Err(error) => binding::explain(schema, &error),
        Ok(_) => format!(
            "{name} is inside another field; only fields of the request itself can be checked"
        ),
    }
}

pub(super) fn unknown_service(schema: &Schema, name: &str) -> String {
    let known: Vec<&str> = schema
        .services()
        .map(|service| service.full_name.as_str())
        .collect();
    if known.is_empty() {
        return format!("no descriptor has a service {name}; they have none at all");
    }
    format!(
        "no descriptor has a service {name}; they have {}",
        known.join(", ")
    )
}

//! What a schema breaks for the callers of another one: methods and services that are gone or are called otherwise, fields that are gone,
//! have another number, type or name in JSON, and values of enums that are gone.
//!
//! Asked of what is reached from the methods of some services; a message that no method uses breaks nobody. What is added breaks
//! nobody, unless it is required. Paths are compared by [`Binding::breaks`], for those who know which ones are served.

use std::collections::BTreeSet;

use crate::binding::{Binding, Body, Response};
use crate::path::FieldPath;
use crate::schema::{Cardinality, EnumId, Field, Kind, MessageId, Method, Schema, Service};

/// Every break, in the order of the services: `orders.Order.total: was int64, is string`.
pub fn breaks(old: &Schema, new: &Schema, services: &BTreeSet<&str>) -> Vec<String> {
    let mut comparison = Comparison {
        old,
        new,
        messages: BTreeSet::new(),
        enums: BTreeSet::new(),
        found: Vec::new(),
    };
    for service in old.services() {
        if services.contains(service.full_name.as_str()) {
            comparison.service(service);
        }
    }
    comparison.found
}

impl Binding {
    /// The requests that it takes, whatever its variables are called: two bindings with the same one clash.
    pub fn pattern(&self) -> String {
        format!("{} {}", self.http_method, self.template.nameless())
    }

    /// What it breaks for the callers of another binding of the same pattern.
    pub fn breaks(&self, old: &Binding) -> Vec<String> {
        let mut found = Vec::new();
        if old.full_name() != self.full_name() {
            let (was, is) = (old.full_name(), self.full_name());
            return vec![format!("{old}: called {was}, and calls {is}")];
        }
        let mut differ = |what: &str, was: String, is: String| {
            if was != is {
                found.push(format!("{old}: {what} was {was}, and is {is}"));
            }
        };
        let fields = |binding: &Binding| {
            let paths = binding.variables.iter().map(|bound| &bound.field);
            let names: Vec<String> = paths.map(|path| name_of(binding, path)).collect();
            names.join(", ")
        };
        differ("what the path says", fields(old), fields(self));
        differ("the body", body(old), body(self));
        differ("the answer", answer(old), answer(self));
        found
    }
}

fn body(binding: &Binding) -> String {
    match &binding.body {
        Body::None => "nothing".to_owned(),
        Body::Whole => "the message".to_owned(),
        Body::Field(path) => name_of(binding, path),
    }
}

fn answer(binding: &Binding) -> String {
    match &binding.response {
        Response::Whole => "the message".to_owned(),
        Response::Shaped(..) => "in the profile's shape".to_owned(),
        Response::Field(path) => name_of(binding, path),
    }
}

/// `book.name`, as the `.proto` file has it.
fn name_of(binding: &Binding, path: &FieldPath) -> String {
    let schema = binding.codec.schema();
    let steps = path.steps().iter().map(|(message, index)| {
        let field = schema.message_info(*message).fields.get(*index);
        field.map_or("", |field| field.name.as_str())
    });
    let names: Vec<&str> = steps.collect();
    format!("`{}`", names.join("."))
}

struct Comparison<'s> {
    old: &'s Schema,
    new: &'s Schema,
    messages: BTreeSet<(MessageId, MessageId)>,
    enums: BTreeSet<(EnumId, EnumId)>,
    found: Vec<String>,
}

impl Comparison<'_> {
    fn service(&mut self, old: &Service) {
        let name = &old.full_name;
        let Some(new) = self.new.service(name) else {
            self.found.push(format!("{name}: the service is gone"));
            return;
        };
        for method in &old.methods {
            let full_name = format!("{name}.{}", method.name);
            match new.methods.iter().find(|one| one.name == method.name) {
                None => self.found.push(format!("{full_name}: the method is gone")),
                Some(other) => self.method(&full_name, method, other),
            }
        }
    }

    fn method(&mut self, name: &str, old: &Method, new: &Method) {
        for (what, was, is) in [
            ("client", old.client_streaming, new.client_streaming),
            ("server", old.server_streaming, new.server_streaming),
        ] {
            if was != is {
                let words = |streams| if streams { "a stream" } else { "one message" };
                let (was, is) = (words(was), words(is));
                let line = format!("{name}: the {what} sent {was}, and sends {is}");
                self.found.push(line);
            }
        }
        self.message(old.input, new.input);
        self.message(old.output, new.output);
    }

    /// By fields, whatever the messages are called: names of messages are not on the wire.
    fn message(&mut self, was: MessageId, is: MessageId) {
        if !self.messages.insert((was, is)) {
            return;
        }
        let (old, new) = (self.old.message_info(was), self.new.message_info(is));
        if old.well_known != new.well_known {
            // Its form in JSON is another one.
            let line = format!("{}: is {} now", old.full_name, new.full_name);
            self.found.push(line);
            return;
        }
        for field in &old.fields {
            let name = match field.extension {
                true => format!("{} {}", old.full_name, field.name),
                false => format!("{}.{}", old.full_name, field.name),
            };
            let number = field.number;
            match (new.field_by_number(number), new.field(&field.name)) {
                (Some(now), _) if now.name == field.name => self.field(&name, field, now),
                (_, Some(moved)) => {
                    let line = format!("{name}: its number was {number}, and is {}", moved.number);
                    self.found.push(line);
                    self.field(&name, field, moved);
                }
                (Some(now), None) => self.field(&name, field, now),
                (None, None) => {
                    let line = format!("{name}: the field is gone (number {number})");
                    self.found.push(line);
                }
            }
        }
        let added = new.fields.iter();
        let added = added.filter(|field| old.field_by_number(field.number).is_none());
        for field in added.filter(|field| field.required) {
            let line = format!(
                "{}.{}: a new field that is required",
                new.full_name, field.name
            );
            self.found.push(line);
        }
    }

    fn field(&mut self, name: &str, old: &Field, new: &Field) {
        if old.json_name != new.json_name || old.name != new.name {
            let names = |field: &Field| match field.json_name == field.name {
                true => format!("`{}`", field.name),
                false => format!("`{}` (`{}` in JSON)", field.name, field.json_name),
            };
            let (was, is, number) = (names(old), names(new), old.number);
            let line = format!("{name}: number {number} was {was}, and is {is}");
            self.found.push(line);
        }
        let (was, is) = (type_of(self.old, old), type_of(self.new, new));
        match (old.kind, new.kind) {
            _ if old.cardinality != new.cardinality => {
                self.found.push(format!("{name}: was {was}, is {is}"))
            }
            (Kind::Message(was), Kind::Message(is)) => self.message(was, is),
            (Kind::Enum(was), Kind::Enum(is)) => self.enumeration(was, is),
            (one, other) if one != other => self.found.push(format!("{name}: was {was}, is {is}")),
            _ => {}
        }
        if new.required && !old.required {
            self.found.push(format!("{name}: is required now"));
        }
    }

    fn enumeration(&mut self, was: EnumId, is: EnumId) {
        if !self.enums.insert((was, is)) {
            return;
        }
        let (old, new) = (self.old.enum_info(was), self.new.enum_info(is));
        for value in &old.values {
            let name = format!("{}.{}", old.full_name, value.name);
            let number = value.number;
            match new.values.iter().find(|one| one.name == value.name) {
                None => self
                    .found
                    .push(format!("{name}: the value is gone (number {number})")),
                Some(now) if now.number != number => {
                    let line = format!("{name}: its number was {number}, and is {}", now.number);
                    self.found.push(line);
                }
                Some(_) => {}
            }
        }
    }
}

/// For people: `repeated int64`, `orders.Order`.
fn type_of(schema: &Schema, field: &Field) -> String {
    let kind = match field.kind {
        Kind::Message(id) => schema.message_info(id).full_name.clone(),
        Kind::Enum(id) => schema.enum_info(id).full_name.clone(),
        other => format!("{other:?}").to_lowercase(),
    };
    match field.cardinality {
        Cardinality::Single => kind,
        Cardinality::Repeated => format!("repeated {kind}"),
        Cardinality::Map => "a map".to_owned(),
    }
}

//! Messages as schemas under `components`, each written once for a direction and a set of options.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{constraints, described, scalar};
use crate::binding::Binding;
use crate::codec::Codec;
use crate::options::{Defaults, JsonOptions, Names, UnknownFields};
use crate::path::FieldPath;
use crate::schema::{Cardinality, Field, Kind, Message, MessageId, WellKnown};
use crate::shape::ShapeNode;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    Request,
    Response,
}

/// The messages that are referred to.
#[derive(Default)]
pub(super) struct Messages {
    schemas: BTreeMap<String, Value>,
    /// The options behind each name of a message: others get a name of their own.
    names: BTreeMap<(String, Direction), Vec<JsonOptions>>,
}

impl Messages {
    pub(super) fn into_schemas(self) -> Value {
        self.schemas.into_iter().collect::<Map<_, _>>().into()
    }

    /// The body of requests: the message without what the path binds, and with what the profile demands.
    pub(super) fn request(&mut self, binding: &Binding) -> Value {
        let codec = &binding.codec;
        let message = codec.schema().message_info(binding.input);
        let variables = binding.variables.iter();
        let bound = variables.filter_map(|bound| match bound.field.steps() {
            [(_, index)] => Some(*index),
            _ => None,
        });
        let bound: BTreeSet<usize> = bound.collect();
        let plain = bound.is_empty() && binding.checks.is_empty();
        if plain || message.well_known.is_some() {
            return self.reference(codec, binding.input, Direction::Request);
        }
        let mut object = self.object(codec, binding.input, Direction::Request, &bound);
        for field in &message.fields {
            if let Some(of) = object["properties"].get_mut(name_of(field, codec.options())) {
                binding.checks.describe(field, of);
            }
        }
        described(object, &message.comment)
    }

    /// A message by its name.
    pub(super) fn reference(
        &mut self,
        codec: &Codec,
        id: MessageId,
        direction: Direction,
    ) -> Value {
        let schema = codec.schema();
        let message = schema.message_info(id);
        match (message.well_known, message.fields.first()) {
            (Some(WellKnown::Wrapper), Some(inner)) => {
                return scalar::json(schema, inner.kind, codec.options(), direction);
            }
            (Some(known), _) => return scalar::well_known(known, direction),
            (None, _) => {}
        }
        let name = self.name(&message.full_name, codec.options(), direction);
        if !self.schemas.contains_key(&name) {
            // It may refer to itself.
            self.schemas.insert(name.clone(), Value::Null);
            let object = self.object(codec, id, direction, &BTreeSet::new());
            let object = described(object, &message.comment);
            self.schemas.insert(name.clone(), object);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    fn name(&mut self, full_name: &str, options: JsonOptions, direction: Direction) -> String {
        let key = (full_name.to_owned(), direction);
        let known = self.names.entry(key).or_default();
        let at = known.iter().position(|one| *one == options);
        let at = at.unwrap_or_else(|| {
            known.push(options);
            known.len() - 1
        });
        let way = match direction {
            Direction::Request => ".request",
            Direction::Response => "",
        };
        match at {
            0 => format!("{full_name}{way}"),
            at => format!("{full_name}{way}.{}", at + 1),
        }
    }

    fn object(
        &mut self,
        codec: &Codec,
        id: MessageId,
        direction: Direction,
        without: &BTreeSet<usize>,
    ) -> Value {
        let options = codec.options();
        let request = direction == Direction::Request;
        let message = codec.schema().message_info(id);
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in &message.fields {
            let elsewhere = match direction {
                Direction::Request => field.told.output_only,
                Direction::Response => field.told.input_only,
            };
            if elsewhere || without.contains(&field.index) {
                continue;
            }
            let name = name_of(field, options);
            let of = self.field(codec, field, direction);
            properties.insert(name.to_owned(), described(of, &field.comment));
            let written = options.defaults == Defaults::Emit && !field.presence;
            let needed = match direction {
                Direction::Request => constraints::is_required(field),
                Direction::Response => written || field.required,
            };
            if needed {
                required.push(name.to_owned());
            }
        }
        let mut object = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            object["required"] = required.into();
        }
        if request && options.unknown_fields == UnknownFields::Reject {
            object["additionalProperties"] = false.into();
        }
        let excluded = excluded(message, options);
        if request && !excluded.is_empty() {
            object["not"] = json!({ "anyOf": excluded });
        }
        object
    }

    /// What a field holds.
    pub(super) fn field(&mut self, codec: &Codec, field: &Field, direction: Direction) -> Value {
        let request = direction == Direction::Request;
        let of = self.value(codec, field, direction);
        let of = match (field.cardinality, request) {
            (Cardinality::Single, true) => constraints::of_value(field, of),
            (Cardinality::Repeated, true) => constraints::of_list(field, of),
            (Cardinality::Repeated, false) => json!({ "type": "array", "items": of }),
            (Cardinality::Single, false) | (Cardinality::Map, _) => of,
        };
        // In requests `null` is as if it were not there.
        match request && !constraints::is_required(field) {
            true => nullable(of),
            false => of,
        }
    }

    fn value(&mut self, codec: &Codec, field: &Field, direction: Direction) -> Value {
        let schema = codec.schema();
        match field.kind {
            Kind::Message(entry) if field.cardinality == Cardinality::Map => {
                let entry = schema.message_info(entry);
                let value = entry.field_by_number(2);
                let of = value.map(|value| self.value(codec, value, direction));
                let of = of.unwrap_or_else(|| json!({}));
                let mut map = json!({ "type": "object", "additionalProperties": of });
                if let Some(names) = entry
                    .field_by_number(1)
                    .and_then(|key| scalar::key(key.kind))
                {
                    map["propertyNames"] = names;
                }
                map
            }
            Kind::Message(id) => self.reference(codec, id, direction),
            kind => scalar::json(schema, kind, codec.options(), direction),
        }
    }

    /// A message in the shape of a profile.
    pub(super) fn shape(&mut self, codec: &Codec, id: MessageId, node: &ShapeNode) -> Value {
        let schema = codec.schema();
        let at = |path: &str| FieldPath::resolve(schema, id, path).ok();
        match node {
            ShapeNode::Json(text) => match serde_json::from_str::<Value>(text) {
                Ok(value) => json!({ "const": value }),
                Err(_) => json!({}),
            },
            ShapeNode::Object(members) => {
                let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                let members = members.iter();
                let properties =
                    members.map(|(name, node)| (name.clone(), self.shape(codec, id, node)));
                let properties: Map<String, Value> = properties.collect();
                json!({ "type": "object", "properties": properties, "required": names })
            }
            ShapeNode::Whole => self.reference(codec, id, Direction::Response),
            ShapeNode::Count(_) => json!({ "type": "integer", "minimum": 0 }),
            ShapeNode::Field(path) => at(path).map_or(json!({}), |path| {
                let field = path.field(schema);
                let of = self.field(codec, field, Direction::Response);
                let single = field.cardinality == Cardinality::Single;
                let of = match field.kind {
                    Kind::Message(_) if single => nullable(of),
                    _ => of,
                };
                described(of, &field.comment)
            }),
            ShapeNode::Each(path, inner) => at(path).map_or(json!({}), |path| {
                let field = path.field(schema);
                let Kind::Message(inside) = field.kind else {
                    return json!({});
                };
                let of = self.shape(codec, inside, inner);
                match field.cardinality {
                    Cardinality::Single => nullable(of),
                    _ => json!({ "type": "array", "items": of }),
                }
            }),
        }
    }
}

fn nullable(mut of: Value) -> Value {
    let choice = of.get("enum").is_some() || of.get("const").is_some();
    match of.get("type") {
        Some(Value::String(kind)) if !choice => {
            of["type"] = json!([kind, "null"]);
            of
        }
        Some(Value::Array(kinds)) => {
            let mut kinds = kinds.clone();
            kinds.push("null".into());
            of["type"] = kinds.into();
            of
        }
        None if of.as_object().is_some_and(Map::is_empty) => of,
        _ => json!({ "anyOf": [of, { "type": "null" }] }),
    }
}

fn name_of(field: &Field, options: JsonOptions) -> &str {
    match options.names {
        Names::Camel => &field.json_name,
        Names::Original => &field.name,
    }
}

/// Each pair of fields that exclude each other.
fn excluded(message: &Message, options: JsonOptions) -> Vec<Value> {
    let members: Vec<&Field> = message
        .fields
        .iter()
        .filter(|field| field.oneof.is_some())
        .collect();
    let mut pairs = Vec::new();
    for (at, one) in members.iter().enumerate() {
        for other in members
            .iter()
            .skip(at + 1)
            .filter(|other| other.oneof == one.oneof)
        {
            pairs.push(json!({ "required": [name_of(one, options), name_of(other, options)] }));
        }
    }
    pairs
}

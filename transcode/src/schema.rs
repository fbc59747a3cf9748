//! Messages, enums and services of a descriptor set, resolved and checked: what every table is compiled from.
//!
//! Knows proto2, proto3 and editions up to 2024: the differences (presence, packing, closed enums, groups) are settled here and
//! appear as plain properties of a field. Extensions are fields of the extended message, named `[full.name]` in JSON.
//! Refuses: unresolved type names, two definitions of one name, field numbers outside 1..=536870911.
//!
//! Spec: <https://protobuf.dev/editions/features/>

mod build;
mod files;
mod place;
mod rules;
mod told;

use std::collections::HashMap;

pub use crate::descriptor::{CustomHttpPattern, HttpPattern, HttpRule};
pub(crate) use told::Told;

/// A message of a [`Schema`]; only meaningful with the schema it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub(crate) u32);

impl MessageId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An enum of a [`Schema`]; only meaningful with the schema it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnumId(pub(crate) u32);

impl EnumId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Every message, enum and service of the descriptor sets it was built from.
#[derive(Debug, Default)]
pub struct Schema {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    services: Vec<Service>,
    message_names: HashMap<String, MessageId>,
    enum_names: HashMap<String, EnumId>,
    service_names: HashMap<String, usize>,
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// Name with its package, without a leading dot.
    pub full_name: String,
    /// Fields in declaration order, extensions after them.
    pub fields: Vec<Field>,
    /// Names of the oneofs; those that stand for a proto3 `optional` are left out.
    pub oneofs: Vec<String>,
    /// Synthesised for a map field: field 1 is the key, field 2 the value.
    pub map_entry: bool,
    /// It has a JSON form of its own.
    pub well_known: Option<WellKnown>,
    /// The comment in its source, if the descriptors carry it.
    pub comment: String,
}

impl Message {
    /// The field with this name in the `.proto` file.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field with this JSON or original name, the JSON name first.
    pub fn field_by_any_name(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|field| field.json_name == name)
            .or_else(|| self.field(name))
    }

    /// The field with this number.
    pub fn field_by_number(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

/// A field or extension.
#[derive(Debug)]
pub struct Field {
    /// Its place in [`Message::fields`].
    pub index: usize,
    /// Name in the `.proto` file; `[full.name]` for an extension.
    pub name: String,
    /// Name in JSON.
    pub json_name: String,
    /// Number on the wire.
    pub number: u32,
    /// Type of the value, or of one element.
    pub kind: Kind,
    /// One, many, or a map.
    pub cardinality: Cardinality,
    /// Unset is told apart from the default value.
    pub presence: bool,
    /// proto2 `required`.
    pub required: bool,
    /// Elements are written packed.
    pub packed: bool,
    /// The message is a group: between two tags instead of after a length.
    pub delimited: bool,
    /// Its place in [`Message::oneofs`].
    pub oneof: Option<usize>,
    /// It is an extension.
    pub extension: bool,
    /// What its author says of its values.
    pub(crate) told: Told,
    /// The comment in its source, if the descriptors carry it.
    pub comment: String,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// At most one.
    Single,
    /// A list.
    Repeated,
    /// A map; the kind is the entry message.
    Map,
}

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the types of the protobuf language")]
pub enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
}

/// A message with a JSON form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the types of google/protobuf/*.proto")]
pub enum WellKnown {
    Any,
    Duration,
    Empty,
    FieldMask,
    ListValue,
    Struct,
    Timestamp,
    Value,
    /// `BoolValue`, `Int64Value` and so on: the value in field 1.
    Wrapper,
}

/// An enum.
#[derive(Debug)]
pub struct Enum {
    /// Name with its package, without a leading dot.
    pub full_name: String,
    /// Values in declaration order; the first is the default.
    pub values: Vec<EnumValue>,
    /// Numbers without a name are not values of it (proto2).
    pub closed: bool,
    /// It is `google.protobuf.NullValue`, which is `null` in JSON.
    pub null_value: bool,
    /// The comment in its source, if the descriptors carry it.
    pub comment: String,
}

/// A value of an enum.
#[derive(Debug)]
pub struct EnumValue {
    /// Name.
    pub name: String,
    /// Number on the wire.
    pub number: i32,
    /// The comment in its source, if the descriptors carry it.
    pub comment: String,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    /// Name with its package, without a leading dot.
    pub full_name: String,
    /// Methods in declaration order.
    pub methods: Vec<Method>,
    /// The comment in its source, if the descriptors carry it.
    pub comment: String,
}

/// A method of a service.
#[derive(Debug)]
pub struct Method {
    /// Name within the service.
    pub name: String,
    /// Request message.
    pub input: MessageId,
    /// Response message.
    pub output: MessageId,
    /// The client sends a stream.
    pub client_streaming: bool,
    /// The server sends a stream.
    pub server_streaming: bool,
    /// Its `google.api.http` annotation.
    pub http_rule: Option<HttpRule>,
    /// What the author says of sending it twice.
    pub idempotency: Idempotency,
    /// The metadata key by which the service knows a repeated call: its `highpress.dedupe` option.
    pub dedupe: Option<String>,
    /// The comment in its source, if the descriptors carry it.
    pub comment: String,
}

/// `MethodOptions.idempotency_level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotency {
    /// Nothing is said.
    #[default]
    Unknown,
    /// It changes nothing.
    NoSideEffects,
    /// Twice is as once.
    Idempotent,
}

/// Why no schema could be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The bytes are not a `FileDescriptorSet`.
    #[error("not a protobuf FileDescriptorSet: {0}")]
    NotADescriptorSet(String),
    /// Two files of one name differ.
    #[error("file {0} is there twice with different content")]
    FileConflict(String),
    /// Two files define the same name.
    #[error("{name} is defined twice, the second time in {file}")]
    NameConflict {
        /// Full name.
        name: String,
        /// File of the second definition.
        file: String,
    },
    /// A type is used that no file defines.
    #[error(
        "{user} refers to {name}, which no file defines (was the set written without its imports?)"
    )]
    Unresolved {
        /// Who refers to it.
        user: String,
        /// Full name.
        name: String,
    },
    /// A definition that no compiler would let through.
    #[error("{name}: {why}")]
    Invalid {
        /// Full name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Schema {
    /// Builds one schema of several `FileDescriptorSet`s in protobuf encoding.
    ///
    /// A file may come in several sets if its content is the same. For files below `google/protobuf/`, `google/api/`, `google/rpc/`
    /// and `google/type/`, which each compiler and library brings in its own version, the first one wins.
    pub fn from_descriptor_sets<'a>(
        sets: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Schema, SchemaError> {
        build::schema(sets)
    }

    /// The message with this full name.
    pub fn message(&self, full_name: &str) -> Option<MessageId> {
        self.message_names.get(full_name).copied()
    }

    /// What is known of a message.
    ///
    /// # Panics
    /// If the id is another schema's.
    pub fn message_info(&self, id: MessageId) -> &Message {
        &self.messages[id.index()]
    }

    /// Every message, map entries included.
    pub fn messages(&self) -> impl Iterator<Item = (MessageId, &Message)> {
        (0..).map(MessageId).zip(&self.messages)
    }

    /// The enum with this full name.
    pub fn enumeration(&self, full_name: &str) -> Option<EnumId> {
        self.enum_names.get(full_name).copied()
    }

    /// What is known of an enum.
    ///
    /// # Panics
    /// If the id is another schema's.
    pub fn enum_info(&self, id: EnumId) -> &Enum {
        &self.enums[id.index()]
    }

    /// Every enum.
    pub fn enums(&self) -> impl Iterator<Item = (EnumId, &Enum)> {
        (0..).map(EnumId).zip(&self.enums)
    }

    /// The service with this full name.
    pub fn service(&self, full_name: &str) -> Option<&Service> {
        self.service_names
            .get(full_name)
            .map(|&index| &self.services[index])
    }

    /// Takes a rule for the method that it selects, if there is one.
    pub(crate) fn take_rule(&mut self, rule: HttpRule) -> bool {
        let selected = rule.selector.rsplit_once('.');
        let method = selected.and_then(|(service, name)| {
            let index = *self.service_names.get(service)?;
            let methods = &mut self.services.get_mut(index)?.methods;
            methods.iter_mut().find(|method| method.name == name)
        });
        let Some(method) = method else {
            return false;
        };
        method.http_rule = Some(rule);
        true
    }

    /// Every service, in the order of the files.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }
}

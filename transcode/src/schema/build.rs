//! From descriptor sets to a [`Schema`]: names first, then fields, so that types may refer to one another in any order.
//!
//! Edition features are inherited from the file down (file, message, oneof, field) and settled per field.

use super::files::merge;
use super::place::{Features, Place, comments};
use super::rules::{camel, check_map_entry, check_numbers, check_wrapper, real_oneofs, well_known};
use super::{Cardinality, Enum, EnumId, EnumValue, Field, Idempotency, Kind, Message, MessageId};
use super::{Method, Schema, SchemaError, Service, Told};
use crate::descriptor::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
};

const MAX_FIELD_NUMBER: i32 = (1 << 29) - 1;
const LABEL_REQUIRED: i32 = 2;
const LABEL_REPEATED: i32 = 3;
const TYPE_GROUP: i32 = 10;
const TYPE_MESSAGE: i32 = 11;
const TYPE_ENUM: i32 = 14;

pub(super) fn schema<'a>(sets: impl IntoIterator<Item = &'a [u8]>) -> Result<Schema, SchemaError> {
    let files = merge(sets)?;
    let mut builder = Builder::default();
    for file in &files {
        builder.declare_file(file)?;
    }
    for file in &files {
        builder.fill_file(file)?;
    }
    builder.order_extensions();
    Ok(builder.schema)
}

#[derive(Default)]
struct Builder {
    schema: Schema,
}

impl Builder {
    fn declare_file(&mut self, file: &FileDescriptorProto) -> Result<(), SchemaError> {
        for message in &file.message_type {
            self.declare_message(file, &file.package, message)?;
        }
        for declared in &file.enum_type {
            self.declare_enum(file, &file.package, declared)?;
        }
        Ok(())
    }

    fn declare_message(
        &mut self,
        file: &FileDescriptorProto,
        scope: &str,
        message: &DescriptorProto,
    ) -> Result<(), SchemaError> {
        let full_name = join(scope, &message.name);
        self.check_new(&full_name, file)?;
        let id = MessageId(self.schema.messages.len() as u32);
        self.schema.message_names.insert(full_name.clone(), id);
        self.schema.messages.push(Message {
            well_known: well_known(&full_name),
            full_name: full_name.clone(),
            fields: Vec::new(),
            oneofs: Vec::new(),
            map_entry: message
                .options
                .as_ref()
                .is_some_and(|options| options.map_entry),
            comment: String::new(),
        });
        for nested in &message.nested_type {
            self.declare_message(file, &full_name, nested)?;
        }
        for declared in &message.enum_type {
            self.declare_enum(file, &full_name, declared)?;
        }
        Ok(())
    }

    fn declare_enum(
        &mut self,
        file: &FileDescriptorProto,
        scope: &str,
        declared: &EnumDescriptorProto,
    ) -> Result<(), SchemaError> {
        let full_name = join(scope, &declared.name);
        self.check_new(&full_name, file)?;
        if declared.value.is_empty() {
            return Err(SchemaError::Invalid {
                name: full_name,
                why: "an enum needs a value",
            });
        }
        let id = EnumId(self.schema.enums.len() as u32);
        self.schema.enum_names.insert(full_name.clone(), id);
        self.schema.enums.push(Enum {
            null_value: full_name == "google.protobuf.NullValue",
            full_name,
            values: Vec::new(),
            closed: false,
            comment: String::new(),
        });
        Ok(())
    }

    fn check_new(&self, full_name: &str, file: &FileDescriptorProto) -> Result<(), SchemaError> {
        if self.schema.message_names.contains_key(full_name)
            || self.schema.enum_names.contains_key(full_name)
        {
            return Err(SchemaError::NameConflict {
                name: full_name.to_owned(),
                file: file.name.clone(),
            });
        }
        Ok(())
    }

    fn fill_file(&mut self, file: &FileDescriptorProto) -> Result<(), SchemaError> {
        let comments = comments(file);
        let place = Place {
            scope: file.package.clone(),
            features: Features::of_syntax(&file.syntax).with(
                file.options
                    .as_ref()
                    .and_then(|options| options.features.as_ref()),
            ),
            path: Vec::new(),
            comments: &comments,
        };
        for (index, message) in file.message_type.iter().enumerate() {
            self.fill_message(&place, message, 4, index)?;
        }
        for (index, declared) in file.enum_type.iter().enumerate() {
            self.fill_enum(&place, declared, 5, index);
        }
        for (index, service) in file.service.iter().enumerate() {
            self.fill_service(&place, service, index, file)?;
        }
        self.fill_extensions(&place, &file.extension)
    }

    fn fill_message(
        &mut self,
        outer: &Place<'_>,
        message: &DescriptorProto,
        part: i32,
        index: usize,
    ) -> Result<(), SchemaError> {
        let features = message
            .options
            .as_ref()
            .and_then(|options| options.features.as_ref());
        let place = outer.inside(&message.name, features, part, index);
        let oneofs = real_oneofs(message);
        let mut fields = Vec::with_capacity(message.field.len());
        for (index, declared) in message.field.iter().enumerate() {
            let mut field = self.field(&place, declared, &message.oneof_decl)?;
            field.index = index;
            field.comment = place.comment_of(2, index);
            field.oneof = declared
                .oneof_index
                .and_then(|at| oneofs.iter().position(|&(real, _)| real == at as usize));
            fields.push(field);
        }
        check_numbers(&place.scope, &fields)?;
        let id = self.schema.message_names[&place.scope];
        let slot = &mut self.schema.messages[id.index()];
        slot.fields = fields;
        slot.oneofs = oneofs.into_iter().map(|(_, name)| name).collect();
        slot.comment = place.comment();
        if slot.map_entry {
            check_map_entry(slot)?;
        }
        check_wrapper(slot);
        for (index, nested) in message.nested_type.iter().enumerate() {
            self.fill_message(&place, nested, 3, index)?;
        }
        for (index, declared) in message.enum_type.iter().enumerate() {
            self.fill_enum(&place, declared, 4, index);
        }
        self.fill_extensions(&place, &message.extension)
    }

    fn field(
        &self,
        place: &Place<'_>,
        declared: &FieldDescriptorProto,
        oneofs: &[OneofDescriptorProto],
    ) -> Result<Field, SchemaError> {
        let name = place.full_name(&declared.name);
        let oneof = checked_oneof(&name, declared, oneofs)?;
        let oneof_features = oneof.and_then(|oneof| oneof.options.as_ref()?.features.as_ref());
        let options = declared.options.as_ref();
        let features = place
            .features
            .with(oneof_features)
            .with(options.and_then(|options| options.features.as_ref()));
        let kind = self.kind(&name, declared)?;
        let repeated = declared.label == LABEL_REPEATED;
        let map =
            repeated && matches!(kind, Kind::Message(id) if self.schema.message_info(id).map_entry);
        let in_map_entry = self
            .schema
            .message(&place.scope)
            .is_some_and(|id| self.schema.message_info(id).map_entry);
        let cardinality = match (map, repeated) {
            (true, _) => Cardinality::Map,
            (false, true) => Cardinality::Repeated,
            (false, false) => Cardinality::Single,
        };
        let is_message = matches!(kind, Kind::Message(_));
        let packable = repeated && !is_message && !matches!(kind, Kind::String | Kind::Bytes);
        Ok(Field {
            index: 0,
            json_name: declared
                .json_name
                .clone()
                .unwrap_or_else(|| camel(&declared.name)),
            name: declared.name.clone(),
            number: declared.number.unsigned_abs(),
            kind,
            cardinality,
            presence: !repeated
                && (is_message
                    || oneof.is_some()
                    || declared.proto3_optional
                    || !features.implicit_presence),
            required: declared.label == LABEL_REQUIRED || features.required,
            packed: packable
                && options
                    .and_then(|options| options.packed)
                    .unwrap_or(features.packed),
            delimited: declared.r#type == TYPE_GROUP
                || (is_message && features.delimited && !map && !in_map_entry),
            oneof: None,
            extension: false,
            told: Told::new(options),
            comment: String::new(),
        })
    }

    fn kind(&self, user: &str, declared: &FieldDescriptorProto) -> Result<Kind, SchemaError> {
        Ok(match declared.r#type {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            9 => Kind::String,
            TYPE_GROUP | TYPE_MESSAGE => Kind::Message(self.resolve(user, &declared.type_name)?),
            12 => Kind::Bytes,
            13 => Kind::Uint32,
            TYPE_ENUM => Kind::Enum(self.resolve_enum(user, &declared.type_name)?),
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            18 => Kind::Sint64,
            _ => {
                return Err(SchemaError::Invalid {
                    name: user.to_owned(),
                    why: "its type is unknown",
                });
            }
        })
    }

    fn resolve(&self, user: &str, name: &str) -> Result<MessageId, SchemaError> {
        let name = name.strip_prefix('.').unwrap_or(name);
        self.schema
            .message(name)
            .ok_or_else(|| SchemaError::Unresolved {
                user: user.to_owned(),
                name: name.to_owned(),
            })
    }

    fn resolve_enum(&self, user: &str, name: &str) -> Result<EnumId, SchemaError> {
        let name = name.strip_prefix('.').unwrap_or(name);
        self.schema
            .enumeration(name)
            .ok_or_else(|| SchemaError::Unresolved {
                user: user.to_owned(),
                name: name.to_owned(),
            })
    }

    fn fill_enum(
        &mut self,
        outer: &Place<'_>,
        declared: &EnumDescriptorProto,
        part: i32,
        index: usize,
    ) {
        let features = declared
            .options
            .as_ref()
            .and_then(|options| options.features.as_ref());
        let place = outer.inside(&declared.name, features, part, index);
        let value =
            |(index, value): (usize, &crate::descriptor::EnumValueDescriptorProto)| EnumValue {
                name: value.name.clone(),
                number: value.number,
                comment: place.comment_of(2, index),
            };
        let id = self.schema.enum_names[&place.scope];
        let slot = &mut self.schema.enums[id.index()];
        slot.values = declared.value.iter().enumerate().map(value).collect();
        slot.closed = place.features.closed_enums;
        slot.comment = place.comment();
    }

    fn fill_extensions(
        &mut self,
        place: &Place<'_>,
        extensions: &[FieldDescriptorProto],
    ) -> Result<(), SchemaError> {
        for declared in extensions {
            let name = place.full_name(&declared.name);
            let mut field = self.field(place, declared, &[])?;
            let extendee = self.resolve(&name, &declared.extendee)?;
            let target = &mut self.schema.messages[extendee.index()];
            field.extension = true;
            field.name = format!("[{name}]");
            field.json_name.clone_from(&field.name);
            field.presence = field.cardinality == Cardinality::Single;
            field.index = target.fields.len();
            target.fields.push(field);
            check_numbers(&target.full_name, &target.fields)?;
        }
        Ok(())
    }

    /// Extensions by number, whichever file or message declares them.
    fn order_extensions(&mut self) {
        for message in &mut self.schema.messages {
            let declared = message
                .fields
                .iter()
                .take_while(|field| !field.extension)
                .count();
            message.fields[declared..].sort_by_key(|field| field.number);
            message
                .fields
                .iter_mut()
                .enumerate()
                .for_each(|(index, field)| field.index = index);
        }
    }

    fn fill_service(
        &mut self,
        outer: &Place<'_>,
        service: &ServiceDescriptorProto,
        index: usize,
        file: &FileDescriptorProto,
    ) -> Result<(), SchemaError> {
        let place = outer.inside(&service.name, None, 6, index);
        let mut methods = Vec::with_capacity(service.method.len());
        for (index, method) in service.method.iter().enumerate() {
            let name = place.full_name(&method.name);
            methods.push(Method {
                input: self.resolve(&name, &method.input_type)?,
                output: self.resolve(&name, &method.output_type)?,
                name: method.name.clone(),
                client_streaming: method.client_streaming,
                server_streaming: method.server_streaming,
                http_rule: method
                    .options
                    .as_ref()
                    .and_then(|options| options.http.clone()),
                idempotency: match method
                    .options
                    .as_ref()
                    .map_or(0, |options| options.idempotency_level)
                {
                    1 => Idempotency::NoSideEffects,
                    2 => Idempotency::Idempotent,
                    _ => Idempotency::Unknown,
                },
                dedupe: dedupe(method, file),
                comment: place.comment_of(2, index),
            });
        }
        let at = self.schema.services.len();
        if self
            .schema
            .service_names
            .insert(place.scope.clone(), at)
            .is_some()
        {
            return Err(SchemaError::NameConflict {
                name: place.scope,
                file: file.name.clone(),
            });
        }
        self.schema.services.push(Service {
            comment: place.comment(),
            full_name: place.scope,
            methods,
        });
        Ok(())
    }
}

/// The oneof that a field names; its number is checked too.
fn checked_oneof<'d>(
    name: &str,
    declared: &FieldDescriptorProto,
    oneofs: &'d [OneofDescriptorProto],
) -> Result<Option<&'d OneofDescriptorProto>, SchemaError> {
    let invalid = |why| SchemaError::Invalid {
        name: name.to_owned(),
        why,
    };
    if !(1..=MAX_FIELD_NUMBER).contains(&declared.number) {
        return Err(invalid("the field number is outside 1..=536870911"));
    }
    let Some(index) = declared.oneof_index else {
        return Ok(None);
    };
    let oneof = oneofs.get(index as usize);
    oneof
        .map(Some)
        .ok_or_else(|| invalid("its oneof is not declared"))
}

/// The option `highpress.dedupe`. Its number may mean something else to a file that does not import it.
fn dedupe(method: &MethodDescriptorProto, file: &FileDescriptorProto) -> Option<String> {
    const DECLARED_IN: &str = "highpress/options.proto";
    let options = method.options.as_ref()?;
    let known = file.dependency.iter().any(|import| import == DECLARED_IN);
    options
        .dedupe
        .clone()
        .filter(|key| known && !key.is_empty())
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}

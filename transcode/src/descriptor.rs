//! The parts of `google/protobuf/descriptor.proto` that transcoding needs, as prost structs of our own.
//!
//! Of our own, because `google.api.http` is an extension of `MethodOptions`: here it is an ordinary field (72295728), so it
//! survives decoding. Fields that no table is built from (Java packages, source spans, reserved ranges) are not decoded, which
//! also makes two descriptors equal when they differ in those alone.
//!
//! Spec: <https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/descriptor.proto>,
//! <https://github.com/googleapis/googleapis/blob/master/google/api/http.proto>

mod constraints;

pub use constraints::{FieldRules, Int32Rules, Int64Rules, RepeatedRules, StringRules};
pub use constraints::{UInt32Rules, UInt64Rules};

/// A set of files, dependencies first: what `protoc --descriptor_set_out --include_imports` writes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileDescriptorSet {
    /// The files.
    #[prost(message, repeated, tag = "1")]
    pub file: Vec<FileDescriptorProto>,
}

/// One `.proto` file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileDescriptorProto {
    /// Path as imported, such as `google/protobuf/any.proto`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Package, empty if there is none.
    #[prost(string, tag = "2")]
    pub package: String,
    /// Imported files.
    #[prost(string, repeated, tag = "3")]
    pub dependency: Vec<String>,
    /// Top-level messages.
    #[prost(message, repeated, tag = "4")]
    pub message_type: Vec<DescriptorProto>,
    /// Top-level enums.
    #[prost(message, repeated, tag = "5")]
    pub enum_type: Vec<EnumDescriptorProto>,
    /// Services.
    #[prost(message, repeated, tag = "6")]
    pub service: Vec<ServiceDescriptorProto>,
    /// Extensions declared at the top level.
    #[prost(message, repeated, tag = "7")]
    pub extension: Vec<FieldDescriptorProto>,
    /// Options.
    #[prost(message, optional, tag = "8")]
    pub options: Option<FileOptions>,
    /// Comments.
    #[prost(message, optional, tag = "9")]
    pub source_code_info: Option<SourceCodeInfo>,
    /// `proto2` (or empty), `proto3` or `editions`.
    #[prost(string, tag = "12")]
    pub syntax: String,
    /// The edition, for `syntax` `editions`.
    #[prost(int32, tag = "14")]
    pub edition: i32,
}

/// One message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DescriptorProto {
    /// Name within its scope.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Fields in declaration order.
    #[prost(message, repeated, tag = "2")]
    pub field: Vec<FieldDescriptorProto>,
    /// Messages inside this one, synthesised map entries included.
    #[prost(message, repeated, tag = "3")]
    pub nested_type: Vec<DescriptorProto>,
    /// Enums inside this one.
    #[prost(message, repeated, tag = "4")]
    pub enum_type: Vec<EnumDescriptorProto>,
    /// Extensions declared inside this one.
    #[prost(message, repeated, tag = "6")]
    pub extension: Vec<FieldDescriptorProto>,
    /// Options.
    #[prost(message, optional, tag = "7")]
    pub options: Option<MessageOptions>,
    /// Oneofs, synthetic ones included.
    #[prost(message, repeated, tag = "8")]
    pub oneof_decl: Vec<OneofDescriptorProto>,
}

/// One field or extension.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FieldDescriptorProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The extended message, for an extension.
    #[prost(string, tag = "2")]
    pub extendee: String,
    /// Number.
    #[prost(int32, tag = "3")]
    pub number: i32,
    /// 1 optional, 2 required, 3 repeated.
    #[prost(int32, tag = "4")]
    pub label: i32,
    /// `FieldDescriptorProto.Type`.
    #[prost(int32, tag = "5")]
    pub r#type: i32,
    /// The message or enum, with a leading dot.
    #[prost(string, tag = "6")]
    pub type_name: String,
    /// Options.
    #[prost(message, optional, tag = "8")]
    pub options: Option<FieldOptions>,
    /// The oneof it belongs to.
    #[prost(int32, optional, tag = "9")]
    pub oneof_index: Option<i32>,
    /// JSON name as protoc computed it.
    #[prost(string, optional, tag = "10")]
    pub json_name: Option<String>,
    /// `optional` in proto3: the oneof is synthetic.
    #[prost(bool, tag = "17")]
    pub proto3_optional: bool,
}

/// One oneof.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OneofDescriptorProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Options.
    #[prost(message, optional, tag = "2")]
    pub options: Option<OneofOptions>,
}

/// One enum.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EnumDescriptorProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Values in declaration order.
    #[prost(message, repeated, tag = "2")]
    pub value: Vec<EnumValueDescriptorProto>,
    /// Options.
    #[prost(message, optional, tag = "3")]
    pub options: Option<EnumOptions>,
}

/// One value of an enum.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EnumValueDescriptorProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Number.
    #[prost(int32, tag = "2")]
    pub number: i32,
}

/// One service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceDescriptorProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Methods in declaration order.
    #[prost(message, repeated, tag = "2")]
    pub method: Vec<MethodDescriptorProto>,
}

/// One method.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MethodDescriptorProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Request message, with a leading dot.
    #[prost(string, tag = "2")]
    pub input_type: String,
    /// Response message, with a leading dot.
    #[prost(string, tag = "3")]
    pub output_type: String,
    /// Options.
    #[prost(message, optional, tag = "4")]
    pub options: Option<MethodOptions>,
    /// The client sends a stream.
    #[prost(bool, tag = "5")]
    pub client_streaming: bool,
    /// The server sends a stream.
    #[prost(bool, tag = "6")]
    pub server_streaming: bool,
}

/// Options of a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileOptions {
    /// Edition features.
    #[prost(message, optional, tag = "50")]
    pub features: Option<FeatureSet>,
}

/// Options of a message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MessageOptions {
    /// The old MessageSet format.
    #[prost(bool, tag = "1")]
    pub message_set_wire_format: bool,
    /// Synthesised entry of a map field.
    #[prost(bool, tag = "7")]
    pub map_entry: bool,
    /// Edition features.
    #[prost(message, optional, tag = "12")]
    pub features: Option<FeatureSet>,
}

/// Options of a field.
#[derive(Clone, prost::Message)]
pub struct FieldOptions {
    /// Packed, where the syntax leaves a choice.
    #[prost(bool, optional, tag = "2")]
    pub packed: Option<bool>,
    /// Edition features.
    #[prost(message, optional, tag = "21")]
    pub features: Option<FeatureSet>,
    /// `google.api.field_behavior`.
    #[prost(int32, repeated, tag = "1052")]
    pub behavior: Vec<i32>,
    /// `buf.validate.field`.
    #[prost(message, optional, tag = "1159")]
    pub rules: Option<FieldRules>,
}

/// By what tables are built from: what is told of values, as comments are, makes no other file.
impl PartialEq for FieldOptions {
    fn eq(&self, other: &Self) -> bool {
        self.packed == other.packed && self.features == other.features
    }
}

/// Options of a oneof.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OneofOptions {
    /// Edition features.
    #[prost(message, optional, tag = "1")]
    pub features: Option<FeatureSet>,
}

/// Options of an enum.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EnumOptions {
    /// Edition features.
    #[prost(message, optional, tag = "7")]
    pub features: Option<FeatureSet>,
}

/// Options of a method.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MethodOptions {
    /// 0 unknown, 1 no side effects, 2 idempotent.
    #[prost(int32, tag = "34")]
    pub idempotency_level: i32,
    /// `highpress.dedupe`, if the file knows that option.
    #[prost(string, optional, tag = "50842")]
    pub dedupe: Option<String>,
    /// `google.api.http`.
    #[prost(message, optional, tag = "72295728")]
    pub http: Option<HttpRule>,
}

/// Edition features; each is 0 where the scope does not set it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FeatureSet {
    /// 1 explicit, 2 implicit, 3 legacy required.
    #[prost(int32, tag = "1")]
    pub field_presence: i32,
    /// 1 open, 2 closed.
    #[prost(int32, tag = "2")]
    pub enum_type: i32,
    /// 1 packed, 2 expanded.
    #[prost(int32, tag = "3")]
    pub repeated_field_encoding: i32,
    /// 2 verify, 3 none.
    #[prost(int32, tag = "4")]
    pub utf8_validation: i32,
    /// 1 length prefixed, 2 delimited.
    #[prost(int32, tag = "5")]
    pub message_encoding: i32,
}

/// `google.api.HttpRule`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HttpRule {
    /// The method it is for, in service configurations; unused in annotations.
    #[prost(string, tag = "1")]
    pub selector: String,
    /// HTTP method and path template.
    #[prost(oneof = "HttpPattern", tags = "2, 3, 4, 5, 6, 8")]
    pub pattern: Option<HttpPattern>,
    /// Field that the body is, `*` for the whole message, empty for no body.
    #[prost(string, tag = "7")]
    pub body: String,
    /// More rules for the same method; they do not nest.
    #[prost(message, repeated, tag = "11")]
    pub additional_bindings: Vec<HttpRule>,
    /// Field that the answer is, empty for the whole message.
    #[prost(string, tag = "12")]
    pub response_body: String,
}

/// HTTP method and path template of a rule.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum HttpPattern {
    /// `GET`
    #[prost(string, tag = "2")]
    Get(String),
    /// `PUT`
    #[prost(string, tag = "3")]
    Put(String),
    /// `POST`
    #[prost(string, tag = "4")]
    Post(String),
    /// `DELETE`
    #[prost(string, tag = "5")]
    Delete(String),
    /// `PATCH`
    #[prost(string, tag = "6")]
    Patch(String),
    /// Any other method.
    #[prost(message, tag = "8")]
    Custom(CustomHttpPattern),
}

/// A method that has no field of its own in [`HttpRule`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CustomHttpPattern {
    /// The method, `*` for any.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// The path template.
    #[prost(string, tag = "2")]
    pub path: String,
}

/// Comments of a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SourceCodeInfo {
    /// One entry for each element.
    #[prost(message, repeated, tag = "1")]
    pub location: Vec<Location>,
}

/// Comments of one element.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Field numbers and indexes from the file down to the element.
    #[prost(int32, repeated, tag = "1")]
    pub path: Vec<i32>,
    /// The comment before it.
    #[prost(string, tag = "3")]
    pub leading_comments: String,
    /// The comment after it.
    #[prost(string, tag = "4")]
    pub trailing_comments: String,
}

//! What an author says of the values of a field by protovalidate's options: the part of `buf.validate.FieldRules` that JSON
//! Schema has words for. Services hold their callers to it; here it is only told, in OpenAPI documents.
//!
//! Spec: <https://github.com/bufbuild/protovalidate/blob/main/proto/protovalidate/buf/validate/validate.proto>

/// `buf.validate.FieldRules`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FieldRules {
    /// Of an `int32`.
    #[prost(message, optional, tag = "3")]
    pub int32: Option<Int32Rules>,
    /// Of an `int64`.
    #[prost(message, optional, tag = "4")]
    pub int64: Option<Int64Rules>,
    /// Of a `uint32`.
    #[prost(message, optional, tag = "5")]
    pub uint32: Option<UInt32Rules>,
    /// Of a `uint64`.
    #[prost(message, optional, tag = "6")]
    pub uint64: Option<UInt64Rules>,
    /// Of a `string`.
    #[prost(message, optional, tag = "14")]
    pub string: Option<StringRules>,
    /// Of a list.
    #[prost(message, optional, boxed, tag = "18")]
    pub repeated: Option<Box<RepeatedRules>>,
    /// It has to be set; without presence: it must not be the default.
    #[prost(bool, tag = "25")]
    pub required: bool,
    /// 1: the rules are not for the default value; 3: for none.
    #[prost(int32, tag = "27")]
    pub ignore: i32,
}

/// `buf.validate.StringRules`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StringRules {
    /// At least so many characters.
    #[prost(uint64, optional, tag = "2")]
    pub min_len: Option<u64>,
    /// At most so many characters.
    #[prost(uint64, optional, tag = "3")]
    pub max_len: Option<u64>,
    /// At least so many bytes.
    #[prost(uint64, optional, tag = "4")]
    pub min_bytes: Option<u64>,
    /// At most so many bytes.
    #[prost(uint64, optional, tag = "5")]
    pub max_bytes: Option<u64>,
    /// A regular expression of RE2 that is found in it.
    #[prost(string, optional, tag = "6")]
    pub pattern: Option<String>,
    /// It is one of these.
    #[prost(string, repeated, tag = "10")]
    pub r#in: Vec<String>,
}

/// `buf.validate.RepeatedRules`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RepeatedRules {
    /// At least so many.
    #[prost(uint64, optional, tag = "1")]
    pub min_items: Option<u64>,
    /// At most so many.
    #[prost(uint64, optional, tag = "2")]
    pub max_items: Option<u64>,
    /// No two are the same.
    #[prost(bool, tag = "3")]
    pub unique: bool,
    /// Of each.
    #[prost(message, optional, boxed, tag = "4")]
    pub items: Option<Box<FieldRules>>,
}

macro_rules! numbers {
    ($($name:ident $kind:tt $rust:ty;)*) => {$(
        #[doc = concat!("`buf.validate.", stringify!($name), "`.")]
        #[derive(Clone, PartialEq, Eq, prost::Message)]
        pub struct $name {
            /// Less than this.
            #[prost($kind, optional, tag = "2")]
            pub lt: Option<$rust>,
            /// At most this.
            #[prost($kind, optional, tag = "3")]
            pub lte: Option<$rust>,
            /// More than this.
            #[prost($kind, optional, tag = "4")]
            pub gt: Option<$rust>,
            /// At least this.
            #[prost($kind, optional, tag = "5")]
            pub gte: Option<$rust>,
        }
    )*};
}

numbers! {
    Int32Rules int32 i32;
    Int64Rules int64 i64;
    UInt32Rules uint32 u32;
    UInt64Rules uint64 u64;
}

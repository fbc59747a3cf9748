//! How JSON is read and written: the choices of a route, defaults first.

/// The choices that one [`Codec`](crate::Codec) is compiled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct JsonOptions {
    /// How 64-bit integers are written.
    pub int64: Int64,
    /// How enum values are written.
    pub enums: Enums,
    /// Which names fields are written with; both are read.
    pub names: Names,
    /// Whether fields that hold their default are written.
    pub defaults: Defaults,
    /// What happens to JSON keys and enum names that the message does not have.
    pub unknown_fields: UnknownFields,
    /// The rules that input is read by.
    pub dialect: Dialect,
}

/// How 64-bit integers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Int64 {
    /// `"42"`, which JavaScript reads without loss.
    #[default]
    String,
    /// `42`
    Number,
}

/// How enum values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Enums {
    /// By name; by number if the value has none.
    #[default]
    Name,
    /// By number.
    Number,
}

/// Which names fields are written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Names {
    /// The JSON name: `lowerCamelCase` unless the field says otherwise.
    #[default]
    Camel,
    /// The name in the `.proto` file.
    Original,
}

/// Whether fields that hold their default are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Defaults {
    /// They are left out.
    #[default]
    Omit,
    /// Those without presence are written: `0`, `""`, `false`, `[]`, `{}`.
    Emit,
}

/// What happens to JSON keys and enum names that the message does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownFields {
    /// They are an error.
    #[default]
    Reject,
    /// They are skipped.
    Ignore,
}

/// The rules that input is read by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Protobuf's JSON mapping: integers also as `"5"`, `1.0` and `1e2`, names exact.
    #[default]
    Proto3,
    /// Plain JSON as a typed reader takes it: keys are the written names in any letter case (exact ones first), `null` is absent, numbers only for numbers,
    /// integers only in their plain form, strings only for strings.
    Plain,
}

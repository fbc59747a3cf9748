//! `routes[].transcode`: how requests become gRPC calls.

use crate::model::{
    ByteSize, Defaults, Enums, Int64, Names, ProfileName, ResponseMetadata, ServiceName,
    StreamForm, TrailingSlash, Transcode, UnknownFields,
};
use crate::reader::{Fields, Value};
use crate::report::Report;
use crate::schema::{Choices, TRANSCODE};
use crate::section::shaping::edited_name;

const INT64: Choices<Int64> = &[
    ("string", Some(Int64::String)),
    ("number", Some(Int64::Number)),
];
const ENUMS: Choices<Enums> = &[("name", Some(Enums::Name)), ("number", Some(Enums::Number))];
const NAMES: Choices<Names> = &[
    ("camel", Some(Names::Camel)),
    ("original", Some(Names::Original)),
];
const DEFAULTS: Choices<Defaults> = &[
    ("omit", Some(Defaults::Omit)),
    ("emit", Some(Defaults::Emit)),
];
const UNKNOWN_FIELDS: Choices<UnknownFields> = &[
    ("reject", Some(UnknownFields::Reject)),
    ("ignore", Some(UnknownFields::Ignore)),
];
const STREAM: Choices<StreamForm> = &[
    ("ndjson", Some(StreamForm::Ndjson)),
    ("array", Some(StreamForm::Array)),
    ("sse", Some(StreamForm::Sse)),
];
const TRAILING_SLASH: Choices<TrailingSlash> = &[
    ("strict", Some(TrailingSlash::Strict)),
    ("ignore", Some(TrailingSlash::Ignore)),
    ("redirect", Some(TrailingSlash::Redirect)),
];
const RESPONSE_METADATA: Choices<ResponseMetadata> = &[
    ("headers", Some(ResponseMetadata::Headers)),
    ("prefixed", Some(ResponseMetadata::Prefixed)),
    ("none", Some(ResponseMetadata::None)),
];

/// A `transcode` map as far as it could be read.
pub(crate) struct Declared {
    pub(crate) profile: Option<ProfileName>,
    /// As written.
    pub(crate) max_body: Option<ByteSize>,
    pub(crate) transcode: Option<Transcode>,
}

pub(crate) fn transcode(value: &Value<'_>, report: &mut Report) -> Declared {
    let Some(fields) = value.fields(&TRANSCODE, report) else {
        return Declared {
            profile: None,
            max_body: None,
            transcode: None,
        };
    };
    let services = fields
        .require("services", report)
        .and_then(|value| value.set(report, ServiceName::parse));
    let profile = match fields.get("profile") {
        Some(value) => value.parsed(report, ProfileName::parse),
        None => ProfileName::parse("standard").ok(),
    };
    let int64 = choice(&fields, "int64", INT64, report);
    let enums = choice(&fields, "enums", ENUMS, report);
    let names = choice(&fields, "names", NAMES, report);
    let defaults = choice(&fields, "defaults", DEFAULTS, report);
    let unknown_fields = choice(&fields, "unknown_fields", UNKNOWN_FIELDS, report);
    let stream = choice(&fields, "stream", STREAM, report);
    let max_body = fields.get("max_body").and_then(|value| value.size(report));
    let unannotated = fields
        .get("unannotated")
        .and_then(|value| value.boolean(report));
    let trailing_slash = choice(&fields, "trailing_slash", TRAILING_SLASH, report);
    let request_metadata = fields
        .get("request_metadata")
        .and_then(|value| value.set(report, metadata_name));
    let response_metadata = choice(&fields, "response_metadata", RESPONSE_METADATA, report);
    let compression = fields
        .get("compression")
        .and_then(|value| value.boolean(report));
    let whole = || {
        Some(Transcode {
            services: services?,
            profile: profile.clone()?,
            int64,
            enums,
            names,
            defaults,
            unknown_fields,
            stream: stream.unwrap_or_default(),
            max_body: max_body.unwrap_or(Transcode::DEFAULT_MAX_BODY),
            unannotated: unannotated.unwrap_or(false),
            trailing_slash: trailing_slash.unwrap_or_default(),
            request_metadata: request_metadata.clone().unwrap_or_default(),
            response_metadata: response_metadata.unwrap_or_default(),
            compression: compression.unwrap_or(true),
        })
    };
    let transcode = whole();
    Declared {
        profile,
        max_body,
        transcode,
    }
}

/// A header that may become metadata.
fn metadata_name(text: &str) -> Result<String, String> {
    let name = edited_name(text)?;
    if name.starts_with("grpc-") || ["content-type", "user-agent"].contains(&&*name) {
        return Err(format!("`{name}` is gRPC's own, and no metadata"));
    }
    Ok(name)
}

fn choice<T: Copy>(
    fields: &Fields<'_>,
    key: &'static str,
    choices: Choices<T>,
    report: &mut Report,
) -> Option<T> {
    fields
        .get(key)
        .and_then(|value| value.choice(choices, report))
}

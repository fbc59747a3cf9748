//! From the words of the configuration to those of the transcoder: patterns of hosts and paths, JSON choices.

use mesh_config::model::{self, PathMatch};
use transcode::{HostPattern, JsonChoices, PathPattern};

pub(super) fn pattern(path: &PathMatch) -> String {
    match path {
        PathMatch::Any => "/**".to_owned(),
        PathMatch::Exact(path) => path.clone(),
        PathMatch::Prefix(prefix) if prefix.ends_with('/') => format!("{prefix}**"),
        PathMatch::Prefix(prefix) => format!("{prefix}/**"),
        PathMatch::Regex(expression) => format!("~{}", expression.as_str()),
    }
}

pub(super) fn path_pattern(path: &PathMatch) -> PathPattern {
    match path {
        PathMatch::Any => PathPattern::Prefix("/".to_owned()),
        PathMatch::Exact(path) => PathPattern::Exact(path.clone()),
        PathMatch::Prefix(prefix) => PathPattern::Prefix(prefix.clone()),
        PathMatch::Regex(expression) => PathPattern::Regex(expression.as_str().to_owned()),
    }
}

pub(super) fn host_pattern(host: &model::HostPattern) -> HostPattern {
    match host {
        model::HostPattern::Exact(host) => HostPattern::Exact(host.clone()),
        model::HostPattern::Wildcard(parent) => HostPattern::Wildcard(parent.clone()),
    }
}

pub(super) fn choices(transcode: &model::Transcode) -> JsonChoices {
    JsonChoices {
        int64: transcode.int64.map(|choice| match choice {
            model::Int64::String => transcode::Int64::String,
            model::Int64::Number => transcode::Int64::Number,
        }),
        enums: transcode.enums.map(|choice| match choice {
            model::Enums::Name => transcode::Enums::Name,
            model::Enums::Number => transcode::Enums::Number,
        }),
        names: transcode.names.map(|choice| match choice {
            model::Names::Camel => transcode::Names::Camel,
            model::Names::Original => transcode::Names::Original,
        }),
        defaults: transcode.defaults.map(|choice| match choice {
            model::Defaults::Omit => transcode::Defaults::Omit,
            model::Defaults::Emit => transcode::Defaults::Emit,
        }),
        unknown_fields: transcode.unknown_fields.map(|choice| match choice {
            model::UnknownFields::Reject => transcode::UnknownFields::Reject,
            model::UnknownFields::Ignore => transcode::UnknownFields::Ignore,
        }),
    }
}

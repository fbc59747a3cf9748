//! Profiles: how a route's requests are read and its answers are shaped, as data.
//!
//! A profile is a map; it stands under `profiles:` in mesh.yaml. All keys are optional:
//!
//! - `description`: for people.
//! - `request`: `dialect` (`proto3` | `plain`), `unknown_fields` (`reject` | `ignore`),
//!   `empty_segments`, and `checks`, a list of `{when, fields: {NAME: 1..1000 | [words]}}`.
//! - `json`: `int64`, `enums`, `names`, `defaults`, where the route does not choose.
//! - `content_type` of answers, and `problem_json`: whether clients that take only
//!   `application/problem+json` get that for failures.
//! - `success`: a list of `{when, body}`; without one that fits, the message as it is.
//! - `errors`: a list of `{when, status, body}`; without one that fits, a `google.rpc.Status`.
//!
//! In lists the first entry whose `when` fits decides. `when` takes `method`
//! (`package.Service/Method`, `package.Service/*`), `path` (a template, as its annotation spells
//! it) and `http_method`; for errors also `code`, `reason` and `http_status` (of failures that
//! the gateway makes itself). Each takes a value or a list.
//!
//! A body is JSON with holes. In `success`: `$` is the message, `$a.b` a field,
//! `{$count: list}` the number of elements, `{$each: list, $as: BODY}` each element in a shape of
//! its own. In `errors`: the names in `$message`, `$code`, `$code_name`, `$reason`, `$status`,
//! `$title`, `$details`, `$method`. A text or key that starts with `$$` means one with `$`.
//!
//! Refused, all at once and each with its path: unknown keys, values that do not fit, holes that
//! do not exist. What depends on messages is checked when a [`Transcoder`](crate::Transcoder)
//! compiles bindings.

mod body;
mod read;
mod when;
mod yaml;

use std::cell::RefCell;

use serde_json::Value;

use crate::checks::Demand;
use crate::errors::{Cause, Part};
use crate::options::{Defaults, Dialect, Enums, Int64, JsonOptions, Names, UnknownFields};
use crate::shape::ShapeNode;
use read::Reader;
pub(crate) use when::{Target, When};

/// The content type where a profile names none.
pub(crate) const JSON: &str = "application/json";

/// The sources of the built-in profiles.
const BUILTIN: [(&str, &str); 2] = [
    ("standard", include_str!("../profiles/standard.json")),
    ("phase1", include_str!("../profiles/phase1.json")),
];

/// A parsed profile.
#[derive(Clone, Debug)]
pub struct Profile {
    name: String,
    source: Value,
    pub(crate) builtin: bool,
    pub(crate) json: JsonChoices,
    pub(crate) dialect: Dialect,
    pub(crate) empty_segments: bool,
    pub(crate) content_type: String,
    pub(crate) problem_json: bool,
    pub(crate) checks: Vec<CheckRule>,
    pub(crate) success: Vec<SuccessRule>,
    pub(crate) errors: Vec<ErrorRule>,
}

/// What a route or a profile chooses of the JSON options; the rest is left to the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonChoices {
    /// How 64-bit integers are written.
    pub int64: Option<Int64>,
    /// How enum values are written.
    pub enums: Option<Enums>,
    /// Which names fields are written with.
    pub names: Option<Names>,
    /// Whether fields that hold their default are written.
    pub defaults: Option<Defaults>,
    /// What happens to fields and parameters that the message does not have.
    pub unknown_fields: Option<UnknownFields>,
}

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct ProfileError {
    /// The place, such as `profiles.mine.errors[3].when.code`.
    pub path: String,
    /// What is wrong there.
    pub why: String,
}

/// Demands on request fields.
#[derive(Clone, Debug)]
pub(crate) struct CheckRule {
    pub(crate) when: When,
    pub(crate) fields: Vec<(String, Demand)>,
    pub(crate) at: String,
}

/// The shape of an answer.
#[derive(Clone, Debug)]
pub(crate) struct SuccessRule {
    pub(crate) when: When,
    pub(crate) body: ShapeNode,
    pub(crate) at: String,
}

/// The shape of a failure.
#[derive(Clone, Debug)]
pub(crate) struct ErrorRule {
    pub(crate) when: When,
    pub(crate) cause: Cause,
    pub(crate) status: Option<u16>,
    pub(crate) body: std::sync::Arc<[Part]>,
    pub(crate) at: String,
}

impl Profile {
    /// Reads the value of `profiles.NAME`.
    pub fn parse(name: &str, source: &Value) -> Result<Profile, Vec<ProfileError>> {
        let faults = RefCell::new(Vec::new());
        let mut profile = Profile {
            name: name.to_owned(),
            source: source.clone(),
            builtin: false,
            json: JsonChoices::default(),
            dialect: Dialect::default(),
            empty_segments: false,
            content_type: JSON.to_owned(),
            problem_json: false,
            checks: Vec::new(),
            success: Vec::new(),
            errors: Vec::new(),
        };
        profile.read(&Reader::new(&format!("profiles.{name}"), source, &faults));
        let faults = faults.into_inner();
        if faults.is_empty() {
            Ok(profile)
        } else {
            Err(faults)
        }
    }

    /// A built-in profile: `standard` or `phase1`.
    pub fn builtin(name: &str) -> Option<Profile> {
        let (name, text) = BUILTIN.iter().find(|(known, _)| *known == name)?;
        // Both are parsed by a test, so neither step can fail here.
        let source: Value = serde_json::from_str(text).ok()?;
        let profile = Profile::parse(name, &source).ok()?;
        Some(Profile {
            builtin: true,
            ..profile
        })
    }

    /// The names of the built-in profiles.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its source as YAML that can stand under `profiles: NAME:` when it is indented.
    pub fn to_yaml(&self) -> String {
        yaml::write(&self.source)
    }

    /// The options of a route: what the route chooses, then the profile, then the defaults.
    pub fn options(&self, route: JsonChoices) -> JsonOptions {
        let ours = self.json;
        JsonOptions {
            int64: route.int64.or(ours.int64).unwrap_or_default(),
            enums: route.enums.or(ours.enums).unwrap_or_default(),
            names: route.names.or(ours.names).unwrap_or_default(),
            defaults: route.defaults.or(ours.defaults).unwrap_or_default(),
            unknown_fields: route
                .unknown_fields
                .or(ours.unknown_fields)
                .unwrap_or_default(),
            dialect: self.dialect,
        }
    }

    fn read(&mut self, reader: &Reader<'_>) {
        reader.keys(&[
            "description",
            "request",
            "json",
            "content_type",
            "problem_json",
            "success",
            "errors",
        ]);
        reader.get("description", |reader| reader.text().map(|_| ()));
        reader.get("request", |reader| {
            self.read_request(reader);
            Some(())
        });
        reader.get("json", |reader| {
            self.read_json(reader);
            Some(())
        });
        if let Some(text) = reader.get("content_type", Reader::header) {
            self.content_type = text;
        }
        self.problem_json = reader.get("problem_json", Reader::flag).unwrap_or(false);
        self.success = reader.list("success", |reader| {
            reader.keys(&["when", "body"]);
            let when = reader
                .get("when", |reader| Some(When::read(reader, &[])))
                .unwrap_or_default();
            let body = reader.need("body", |reader| Some(body::shape(reader)))?;
            Some(SuccessRule {
                when,
                body,
                at: reader.at().to_owned(),
            })
        });
        self.errors = reader.list("errors", |reader| {
            reader.keys(&["when", "status", "body"]);
            let (when, cause) = reader
                .get("when", |reader| Some(when::cause(reader)))
                .unwrap_or_default();
            let status = reader.get("status", Reader::failure_status);
            let body = reader.need("body", |reader| Some(body::parts(reader)))?;
            Some(ErrorRule {
                when,
                cause,
                status,
                body: body.into(),
                at: reader.at().to_owned(),
            })
        });
    }

    fn read_request(&mut self, reader: &Reader<'_>) {
        reader.keys(&["dialect", "unknown_fields", "empty_segments", "checks"]);
        let dialects = [("proto3", Dialect::Proto3), ("plain", Dialect::Plain)];
        self.dialect = reader.choice("dialect", &dialects).unwrap_or_default();
        let unknown = [
            ("reject", UnknownFields::Reject),
            ("ignore", UnknownFields::Ignore),
        ];
        self.json.unknown_fields = reader.choice("unknown_fields", &unknown);
        self.empty_segments = reader.get("empty_segments", Reader::flag).unwrap_or(false);
        self.checks = reader.list("checks", |reader| {
            reader.keys(&["when", "fields"]);
            let when = reader
                .get("when", |reader| Some(When::read(reader, &[])))
                .unwrap_or_default();
            let fields = reader.need("fields", |reader| Some(reader.members(Reader::demand)))?;
            Some(CheckRule {
                when,
                fields,
                at: reader.at().to_owned(),
            })
        });
    }

    fn read_json(&mut self, reader: &Reader<'_>) {
        reader.keys(&["int64", "enums", "names", "defaults"]);
        let choices = &mut self.json;
        choices.int64 = reader.choice(
            "int64",
            &[("string", Int64::String), ("number", Int64::Number)],
        );
        choices.enums = reader.choice("enums", &[("name", Enums::Name), ("number", Enums::Number)]);
        choices.names = reader.choice(
            "names",
            &[("camel", Names::Camel), ("original", Names::Original)],
        );
        choices.defaults = reader.choice(
            "defaults",
            &[("omit", Defaults::Omit), ("emit", Defaults::Emit)],
        );
    }
}

#[cfg(test)]
mod tests;

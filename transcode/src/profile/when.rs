//! The conditions of a profile's entries: on the binding, and for errors on the failure too.

use super::read::Reader;
use crate::errors::Cause;
use crate::status::Code;

/// Conditions on the binding, known when it is compiled. Each holds if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) methods: Vec<MethodPattern>,
    paths: Vec<String>,
    http_methods: Vec<String>,
}

/// `package.Service/Method`, or all methods of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodPattern {
    pub(crate) service: String,
    pub(crate) method: Option<String>,
}

/// The binding that conditions are asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'t> {
    pub(crate) service: &'t str,
    pub(crate) method: &'t str,
    pub(crate) path: &'t str,
    pub(crate) http_method: &'t str,
}

const BINDING_KEYS: [&str; 3] = ["method", "path", "http_method"];
const FAILURE_KEYS: [&str; 3] = ["code", "reason", "http_status"];

impl When {
    /// Reads the conditions on the binding; `more` are keys that someone else reads.
    pub(super) fn read(reader: &Reader<'_>, more: &[&str]) -> When {
        let known: Vec<&str> = BINDING_KEYS.iter().chain(more).copied().collect();
        reader.keys(&known);
        When {
            methods: reader.several("method", method),
            paths: reader.several("path", Reader::text),
            http_methods: reader.several("http_method", Reader::text),
        }
    }

    /// Whether they hold; without a binding only if there are none.
    pub(crate) fn holds(&self, target: Option<Target<'_>>) -> bool {
        let Some(target) = target else {
            return *self == When::default();
        };
        let method = |pattern: &MethodPattern| {
            let same = |method: &String| method == target.method;
            pattern.service == target.service && pattern.method.as_ref().is_none_or(same)
        };
        (self.methods.is_empty() || self.methods.iter().any(method))
            && (self.paths.is_empty() || self.paths.iter().any(|path| path == target.path))
            && (self.http_methods.is_empty()
                || self
                    .http_methods
                    .iter()
                    .any(|method| method == target.http_method))
    }
}

/// Reads the conditions of an error: on the binding and on the failure.
pub(super) fn cause(reader: &Reader<'_>) -> (When, Cause) {
    let when = When::read(reader, &FAILURE_KEYS);
    let cause = Cause {
        codes: reader.several("code", code),
        reasons: reader.several("reason", Reader::text),
        statuses: reader.several("http_status", Reader::failure_status),
    };
    (when, cause)
}

fn method(reader: &Reader<'_>) -> Option<MethodPattern> {
    let text = reader.text()?;
    match text.split_once('/') {
        Some((service, method)) if !service.is_empty() && !method.is_empty() => {
            let method = (method != "*").then(|| method.to_owned());
            Some(MethodPattern {
                service: service.to_owned(),
                method,
            })
        }
        _ => {
            reader.fault("write `package.Service/Method`, or `package.Service/*` for all of them");
            None
        }
    }
}

fn code(reader: &Reader<'_>) -> Option<Code> {
    let text = reader.text()?;
    // OK is no failure.
    let code = Code::from_name(&text).filter(|code| *code != Code::Ok);
    if code.is_none() {
        let names: Vec<&str> = (1..=16)
            .map(|number| Code::from_number(number).name())
            .collect();
        reader.fault(format!("no gRPC code; there are {}", names.join(", ")));
    }
    code
}

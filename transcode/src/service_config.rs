//! The HTTP rules of a `google.api.Service` configuration, which say of methods what their annotations would: for `.proto` files
//! that nobody may edit. A rule takes the place of its method's annotation; of several for one method the last counts.
//!
//! All other parts of a service configuration are for others, and not looked at. Refused, all at once and each with its path: rules
//! with unknown keys, without a method that the schema has, or without a pattern, and `fully_decode_reserved_expansion`.
//!
//! Spec: <https://github.com/googleapis/googleapis/blob/master/google/api/http.proto> ("gRPC API Service Configuration")

use serde_json::{Map, Value};

use crate::descriptor::{CustomHttpPattern, HttpPattern, HttpRule};
use crate::schema::Schema;

const TYPE: &str = "google.api.Service";
const KEYS: &str =
    "selector, get, put, post, delete, patch, custom, body, response_body, additional_bindings";

/// What is wrong with a service configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct ServiceConfigError {
    /// The place, such as `http.rules[3].get`.
    pub path: String,
    /// What is wrong there.
    pub why: String,
}

impl Schema {
    /// Takes the rules of a service configuration instead of annotations. `growing`: methods that nobody has described yet may
    /// become known.
    pub fn take_rules(
        &mut self,
        config: &Value,
        growing: bool,
    ) -> Result<(), Vec<ServiceConfigError>> {
        let mut reader = Reader::default();
        for (at, rule) in reader.rules(config) {
            if !self.take_rule(rule) && !growing {
                let why = "no descriptors have such a method: write package.Service.Method";
                reader.fault(&format!("{at}.selector"), why);
            }
        }
        match reader.faults.is_empty() {
            true => Ok(()),
            false => Err(reader.faults),
        }
    }
}

#[derive(Default)]
struct Reader {
    faults: Vec<ServiceConfigError>,
}

impl Reader {
    fn fault(&mut self, path: &str, why: impl Into<String>) {
        self.faults.push(ServiceConfigError {
            path: path.to_owned(),
            why: why.into(),
        });
    }

    /// Each rule with its place.
    fn rules(&mut self, config: &Value) -> Vec<(String, HttpRule)> {
        if let Some(kind) = config.get("type").filter(|kind| *kind != TYPE) {
            self.fault("type", format!("this is {kind}, and not {TYPE}"));
        }
        let Some(http) = config.get("http").and_then(Value::as_object) else {
            self.fault("http", "it has no HTTP rules");
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (key, value) in http {
            match key.as_str() {
                "rules" => rules = self.list("http.rules", value),
                "fully_decode_reserved_expansion" | "fullyDecodeReservedExpansion" => {
                    if *value != Value::Bool(false) {
                        let why = "not in this version: %2F stays as it is in variables of several segments";
                        self.fault(&format!("http.{key}"), why);
                    }
                }
                _ => self.fault(&format!("http.{key}"), "unknown key (known here: rules)"),
            }
        }
        rules
    }

    fn list(&mut self, at: &str, value: &Value) -> Vec<(String, HttpRule)> {
        let Some(items) = value.as_array() else {
            self.fault(at, "this has to be a list of rules");
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{at}[{index}]");
            match item.as_object() {
                Some(members) => {
                    let rule = self.rule(&at, members);
                    if rule.selector.is_empty() {
                        self.fault(&at, "it has no `selector`, so nobody knows its method");
                    }
                    rules.push((at, rule));
                }
                None => self.fault(&at, "a rule is a map"),
            }
        }
        rules
    }

    fn rule(&mut self, at: &str, members: &Map<String, Value>) -> HttpRule {
        let mut rule = HttpRule::default();
        for (key, value) in members {
            let at = format!("{at}.{key}");
            match key.as_str() {
                "selector" => rule.selector = self.text(&at, value),
                "body" => rule.body = self.text(&at, value),
                "response_body" | "responseBody" => rule.response_body = self.text(&at, value),
                "additional_bindings" | "additionalBindings" => {
                    rule.additional_bindings = self.additional(&at, value);
                }
                "custom" => {
                    let pattern = HttpPattern::Custom(self.custom(&at, value));
                    self.pattern(&at, &mut rule, pattern);
                }
                "get" | "put" | "post" | "delete" | "patch" => {
                    let path = self.text(&at, value);
                    let pattern = match key.as_str() {
                        "get" => HttpPattern::Get(path),
                        "put" => HttpPattern::Put(path),
                        "post" => HttpPattern::Post(path),
                        "delete" => HttpPattern::Delete(path),
                        _ => HttpPattern::Patch(path),
                    };
                    self.pattern(&at, &mut rule, pattern);
                }
                _ => self.fault(&at, format!("unknown key (known here: {KEYS})")),
            }
        }
        if rule.pattern.is_none() {
            self.fault(
                at,
                "it has neither a method nor a path: write `get: /v1/...`",
            );
        }
        rule
    }

    fn pattern(&mut self, at: &str, rule: &mut HttpRule, pattern: HttpPattern) {
        if rule.pattern.replace(pattern).is_some() {
            self.fault(
                at,
                "a rule has one path: write the others as `additional_bindings`",
            );
        }
    }

    fn additional(&mut self, at: &str, value: &Value) -> Vec<HttpRule> {
        let Some(items) = value.as_array() else {
            self.fault(at, "this has to be a list of rules");
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{at}[{index}]");
            match item.as_object() {
                Some(members) => rules.push(self.rule(&at, members)),
                None => self.fault(&at, "a rule is a map"),
            }
        }
        rules
    }

    fn custom(&mut self, at: &str, value: &Value) -> CustomHttpPattern {
        let mut custom = CustomHttpPattern::default();
        let members = value.as_object();
        for (key, value) in members.into_iter().flatten() {
            let at = format!("{at}.{key}");
            match key.as_str() {
                "kind" => custom.kind = self.text(&at, value),
                "path" => custom.path = self.text(&at, value),
                _ => self.fault(&at, "unknown key (known here: kind, path)"),
            }
        }
        if custom.kind.is_empty() || custom.path.is_empty() {
            self.fault(at, "write { kind: METHOD, path: /v1/... }");
        }
        custom
    }

    fn text(&mut self, at: &str, value: &Value) -> String {
        match value.as_str() {
            Some(text) => text.to_owned(),
            None => {
                self.fault(at, "this has to be text");
                String::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn rules(config: &Value) -> (Vec<(String, HttpRule)>, Vec<String>) {
        let mut reader = Reader::default();
        let rules = reader.rules(config);
        let faults = reader.faults.iter().map(ToString::to_string).collect();
        (rules, faults)
    }

    #[test]
    fn rules_are_read_with_all_that_annotations_may_have() {
        let config = json!({ "type": TYPE, "name": "x", "http": { "rules": [{
            "selector": "a.B.C", "post": "/v1/{name=x/*}:do", "body": "*", "response_body": "thing",
            "additional_bindings": [{ "custom": { "kind": "PURGE", "path": "/v1/x" } }],
        }] } });
        let (rules, faults) = rules(&config);
        assert_eq!(faults, Vec::<String>::new());
        let rule = &rules[0].1;
        assert_eq!((rule.selector.as_str(), rule.body.as_str()), ("a.B.C", "*"));
        let pattern = HttpPattern::Post("/v1/{name=x/*}:do".to_owned());
        assert_eq!(rule.pattern.as_ref(), Some(&pattern));
        let custom = CustomHttpPattern {
            kind: "PURGE".to_owned(),
            path: "/v1/x".to_owned(),
        };
        let extra = &rule.additional_bindings[0].pattern;
        assert_eq!(extra.as_ref(), Some(&HttpPattern::Custom(custom)));
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let config = json!({ "type": "google.api.Thing", "http": { "rules": [
            { "selector": "a.B.C", "gett": "/x" },
            { "selector": "a.B.C", "get": "/x", "put": "/y" },
            { "get": 3 },
        ], "fully_decode_reserved_expansion": true } });
        let (_, faults) = rules(&config);
        for part in [
            "type: ",
            "http.rules[0].gett: unknown key",
            "http.rules[0]: it has neither",
            "http.rules[1].put: a rule has one path",
            "http.rules[2].get: this has to be text",
            "http.rules[2]: it has no `selector`",
            "http.fully_decode_reserved_expansion: not in this version",
        ] {
            assert!(
                faults.iter().any(|fault| fault.starts_with(part)),
                "{part}: {faults:?}"
            );
        }
    }
}

//! What an author says of a field's values (`google.api.field_behavior`, protovalidate) in the words of JSON Schema. It is told of
//! requests only: what a service answers with is its own to say.
//!
//! Left out: rules that JSON Schema has no word for, and expressions that are not both RE2 and ECMA-262. A bound in bytes is told as
//! the same one in characters.

use serde_json::{Value, json};

use crate::descriptor::FieldRules;
use crate::schema::Field;

/// Whether callers have to give a field.
pub(super) fn is_required(field: &Field) -> bool {
    field.required || field.told.required || !field.presence && field.told.refuses_default()
}

/// Adds what is said of one value of a field.
pub(super) fn of_value(field: &Field, of: Value) -> Value {
    let told = &field.told;
    let Some(rules) = &told.rules else {
        return of;
    };
    let ruled = ruled(rules, of.clone());
    match ruled {
        ruled if ruled == of || !told.or_default => ruled,
        mut ruled => match ruled.get_mut("enum").and_then(Value::as_array_mut) {
            Some(words) => {
                words.insert(0, "".into());
                ruled
            }
            None => {
                let default = if of["type"] == "string" {
                    json!("")
                } else {
                    json!(0)
                };
                json!({ "anyOf": [ruled, { "const": default }] })
            }
        },
    }
}

/// A list of such values, with what is said of it.
pub(super) fn of_list(field: &Field, items: Value) -> Value {
    let rules = field.told.rules.as_ref();
    let Some(rules) = rules.and_then(|rules| rules.repeated.as_ref()) else {
        return json!({ "type": "array", "items": items });
    };
    let items = match &rules.items {
        Some(each) => ruled(each, items),
        None => items,
    };
    let mut list = json!({ "type": "array", "items": items });
    let least = rules.min_items.filter(|_| !field.told.or_default);
    set(&mut list, "minItems", least);
    set(&mut list, "maxItems", rules.max_items);
    if rules.unique {
        list["uniqueItems"] = true.into();
    }
    list
}

fn ruled(rules: &FieldRules, mut of: Value) -> Value {
    if let Some(text) = rules.string.as_ref().filter(|_| of["type"] == "string") {
        let least = text.min_bytes.filter(|least| *least > 0).map(|_| 1);
        set(&mut of, "minLength", text.min_len.or(least));
        set(&mut of, "maxLength", text.max_len.or(text.max_bytes));
        let pattern = text.pattern.as_deref().filter(|pattern| is_common(pattern));
        set(&mut of, "pattern", pattern);
        if !text.r#in.is_empty() {
            of["enum"] = text.r#in.clone().into();
        }
    }
    macro_rules! bounds {
        ($($kind:ident),*) => {$(
            if let Some(bounds) = &rules.$kind {
                set(&mut of, "exclusiveMaximum", bounds.lt);
                set(&mut of, "maximum", bounds.lte);
                set(&mut of, "exclusiveMinimum", bounds.gt);
                set(&mut of, "minimum", bounds.gte);
            }
        )*};
    }
    if is_integer(&of) {
        let before = of.clone();
        bounds!(int32, int64, uint32, uint64);
        if of != before {
            // Texts of digits cannot be bounded.
            of["type"] = "integer".into();
            of.as_object_mut().map(|of| of.remove("pattern"));
        }
    }
    of
}

fn is_integer(of: &Value) -> bool {
    let lenient = || {
        let kinds = of["type"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "integer"))
    };
    of["type"] == "integer" || lenient()
}

fn set<T: Into<Value>>(of: &mut Value, word: &str, value: Option<T>) {
    if let Some(value) = value {
        of[word] = value.into();
    }
}

/// Whether both languages of expressions read it alike.
fn is_common(pattern: &str) -> bool {
    let foreign = [
        "\\A", "\\z", "\\Q", "\\C", "\\p", "\\P", "[[:", "(?i", "(?s", "(?m", "(?U", "(?P",
    ];
    !foreign.iter().any(|part| pattern.contains(part))
}

//! A profile's source as YAML for people: small maps and lists on one line, texts bare where
//! YAML reads them as texts. What it writes is read back as the same value.

use serde_json::Value;

/// Lines are kept within this many columns where a map or list can be broken.
const WIDTH: usize = 110;

/// Writes a value as a YAML document.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(object) if !object.is_empty() => block(value, 0, &mut out),
        _ => {
            out.push_str(&flow(value));
            out.push('\n');
        }
    }
    out
}

/// Writes the entries of a map or the elements of a list, a line or more each.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(object) => {
            for (index, (key, value)) in object.iter().enumerate() {
                // The first entry of a map in a list stands behind the dash.
                if index > 0 || !out.ends_with("- ") {
                    out.push_str(&" ".repeat(indent));
                }
                out.push_str(&text(key));
                out.push(':');
                below(value, indent + 2, out, text(key).len() + 2);
            }
        }
        Value::Array(elements) => {
            for value in elements {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                let on_line = flow(value);
                if small(value) && indent + 2 + on_line.len() <= WIDTH {
                    out.push_str(&format!(" {on_line}\n"));
                } else {
                    out.push_str(if value.is_array() { "\n" } else { " " });
                    block(value, indent + 2, out);
                }
            }
        }
        scalar => out.push_str(&format!("{}\n", flow(scalar))),
    }
}

/// Writes the value of a key: on its line if it fits, below it if not.
fn below(value: &Value, indent: usize, out: &mut String, key: usize) {
    let on_line = flow(value);
    let fits = indent + key + on_line.len() <= WIDTH;
    if !is_nested(value) || (small(value) && fits) {
        out.push_str(&format!(" {on_line}\n"));
    } else {
        out.push('\n');
        block(value, indent, out);
    }
}

fn is_nested(value: &Value) -> bool {
    match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        _ => false,
    }
}

/// Whether a value is easy to read on one line: at most one level below it.
fn small(value: &Value) -> bool {
    let leaf = |value: &Value| match value {
        Value::Object(object) => object.values().all(|value| !is_nested(value)),
        Value::Array(elements) => elements.iter().all(|value| !is_nested(value)),
        _ => true,
    };
    match value {
        Value::Object(object) => object.values().all(leaf),
        Value::Array(elements) => elements.iter().all(leaf),
        _ => true,
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(object) if object.is_empty() => "{}".to_owned(),
        Value::Object(object) => {
            let entries = object
                .iter()
                .map(|(key, value)| format!("{}: {}", text(key), flow(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Array(elements) => {
            format!(
                "[{}]",
                elements.iter().map(flow).collect::<Vec<_>>().join(", ")
            )
        }
        Value::String(value) => text(value),
        scalar => scalar.to_string(),
    }
}

/// A text, in quotes (JSON's, which YAML has too) unless it can only be read as a text.
fn text(text: &str) -> String {
    let first = |c: char| c.is_ascii_alphabetic() || "/$".contains(c);
    let inner = |c: char| c.is_ascii_alphanumeric() || " /$._;=+*-".contains(c);
    let range = text.split_once("..").is_some_and(|(low, high)| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits(low) && digits(high)
    });
    let word = text.to_ascii_lowercase();
    let reserved =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&word.as_str());
    let plain = text.starts_with(first) && text.chars().all(inner) && !text.ends_with(' ');
    if range || (plain && !reserved) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

//! Pages for people, made of the same JSON that scripts read: lists of objects become tables.
//!
//! No script, no style sheet from elsewhere, nothing that an operator's machine would have to fetch.

use std::fmt::Write;

use serde_json::{Map, Value};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2733}\
h1{font-size:1.4rem}nav a{margin-right:1rem}table{border-collapse:collapse;margin:.6rem 0;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.25rem .6rem;border-bottom:1px solid #dde3ea}\
th{font-weight:600;color:#51606f}code,pre,td{font-family:ui-monospace,monospace;font-size:.86rem}\
.no{color:#b42318}.yes{color:#177245}";

const LINKS: [(&str, &str); 6] = [
    ("/", "overview"),
    ("/clusters", "clusters"),
    ("/routes", "routes"),
    ("/config", "configuration"),
    ("/metrics", "metrics"),
    ("/readyz", "readiness"),
];

/// A whole page that shows a value.
pub(super) fn page(title: &str, value: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title} · highpress</title><style>{STYLE}</style><nav>"
    );
    for (path, name) in LINKS {
        let _ = write!(html, "<a href=\"{path}\">{name}</a>");
    }
    let _ = write!(html, "</nav><h1>{}</h1>", escaped(title));
    render(value, &mut html);
    html.push_str("</html>\n");
    html
}

fn render(value: &Value, html: &mut String) {
    match value {
        Value::Array(items) if items.is_empty() => html.push('–'),
        Value::Array(items) if items.iter().all(Value::is_object) => table(items, html),
        Value::Array(items) => items.iter().for_each(|item| {
            render(item, html);
            html.push_str("<br>");
        }),
        Value::Object(members) => definitions(members, html),
        Value::Bool(true) => html.push_str("<span class=yes>yes</span>"),
        Value::Bool(false) => html.push_str("<span class=no>no</span>"),
        Value::Null => html.push('–'),
        Value::String(text) => html.push_str(&escaped(text)),
        Value::Number(number) => {
            let _ = write!(html, "{number}");
        }
    }
}

fn table(items: &[Value], html: &mut String) {
    let objects = || items.iter().filter_map(Value::as_object);
    let mut columns: Vec<&String> = Vec::new();
    for key in objects().flat_map(Map::keys) {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    html.push_str("<table><tr>");
    for column in &columns {
        let _ = write!(html, "<th>{}</th>", escaped(column));
    }
    html.push_str("</tr>");
    for object in objects() {
        html.push_str("<tr>");
        for column in &columns {
            html.push_str("<td>");
            render(object.get(*column).unwrap_or(&Value::Null), html);
            html.push_str("</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
}

fn definitions(members: &Map<String, Value>, html: &mut String) {
    html.push_str("<table>");
    for (key, value) in members {
        let _ = write!(html, "<tr><th>{}</th><td>", escaped(key));
        render(value, html);
        html.push_str("</td></tr>");
    }
    html.push_str("</table>");
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_objects_are_tables_and_text_is_escaped() {
        let html = page(
            "clusters",
            &json!([{ "name": "<a&b>", "usable": false }, { "weight": 2 }]),
        );
        assert!(
            html.contains("<th>name</th><th>usable</th><th>weight</th>"),
            "{html}"
        );
        assert!(
            html.contains("<td>&lt;a&amp;b&gt;</td><td><span class=no>no</span></td><td>–</td>"),
            "{html}"
        );
    }
}

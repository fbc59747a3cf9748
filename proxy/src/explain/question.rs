//! The question: a request as a command line or a query writes it.

use std::fmt::Write;

use http::{HeaderName, HeaderValue, Request};

use crate::edge::Head;

/// A request to be explained.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Question {
    /// Reads `name: value` header lines.
    pub(crate) fn with_header_lines(mut self, lines: &[String]) -> Result<Self, String> {
        for line in lines {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("`{line}` is not a header: write `name: value`"))?;
            self.headers
                .push((name.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(self)
    }

    /// The question that [`Question::to_query`] wrote.
    pub(crate) fn from_query(query: &str) -> Result<Self, String> {
        let mut question = Self::default();
        let mut lines = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value)
                .ok_or_else(|| format!("`{pair}` is not percent-encoded UTF-8"))?;
            match name {
                "method" => question.method = value,
                "path" => question.target = value,
                "header" => lines.push(value),
                "body" => question.body = value,
                other => {
                    return Err(format!(
                        "unknown parameter `{other}`; there are method, path, header and body"
                    ));
                }
            }
        }
        if question.method.is_empty() || question.target.is_empty() {
            return Err(
                "give `method` and `path`, such as /explain?method=GET&path=/v1/things".to_owned(),
            );
        }
        question.with_header_lines(&lines)
    }

    /// The question as a query, to ask a running gateway.
    pub(crate) fn to_query(&self) -> String {
        let mut pairs = vec![
            ("method", self.method.clone()),
            ("path", self.target.clone()),
            ("body", self.body.clone()),
        ];
        pairs.extend(
            self.headers
                .iter()
                .map(|(name, value)| ("header", format!("{name}: {value}"))),
        );
        let encoded = pairs
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", percent_encoded(value)));
        encoded.collect::<Vec<_>>().join("&")
    }

    /// The request as the edge would hand it on.
    pub(super) fn head(&self) -> Result<Head, String> {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(self.target.as_str());
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`{name}` is not a header name"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("`{value}` is not a header value"))?;
            request = request.header(name, value);
        }
        let request = request
            .body(())
            .map_err(|error| format!("not a request: {error}"))?;
        Ok(Head::of(&request))
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            out.push(*first);
            rest = after;
            continue;
        }
        let (pair, after) = after.split_at_checked(2)?;
        out.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_its_way_through_a_query() {
        let question = Question {
            method: "POST".into(),
            target: "/a/%2F?x=1&y=é".into(),
            headers: vec![("x-v".into(), "1 & 2".into())],
            body: "{\"a\": \"100%\"}".into(),
        };
        let back = Question::from_query(&question.to_query()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{question:?}"));
        assert!(Question::from_query("method=GET").is_err());
        assert!(Question::from_query("method=GET&path=%zz").is_err());
    }
}

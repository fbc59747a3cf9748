//! `${NAME}` and `${NAME:-default}` in values. `$${` is the text `${`; any other `$` is itself. The default holds
//! when the variable is not set or empty. Keys are not expanded, and neither is what comes out of a variable: it
//! can neither add keys nor name further variables.
//!
//! Refused: a variable that is not set and has no default, a name that cannot be one, `${` that does not end.

/// Where variables are looked up.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a>(pub(crate) &'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    /// `text` with its variables replaced; `None` if there is nothing to replace.
    pub(crate) fn expand(self, text: &str) -> Result<Option<String>, String> {
        if !text.contains("${") {
            return Ok(None);
        }
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = after;
                continue;
            }
            expanded.push_str(before);
            let (reference, after) = after.split_once('}').ok_or_else(|| {
                let name = name_in(after);
                format!("`${{{name}` does not end: close it with `}}`, or write `$${{` for `${{`")
            })?;
            expanded.push_str(&self.value(reference)?);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(Some(expanded))
    }

    fn value(self, reference: &str) -> Result<String, String> {
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !word || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            let name = name_in(reference);
            return Err(format!(
                "`${{{name}}}` is not a variable: write ${{NAME}} or ${{NAME:-default}}, or `$${{` for `${{`"
            ));
        }
        match (self.0(name), default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(format!(
                "the environment has no `{name}`: set it, or give a default with `${{{name}:-...}}`"
            )),
        }
    }
}

/// As much of a reference as may be shown: what follows the name may be the default of a secret.
fn name_in(reference: &str) -> String {
    let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let name: String = reference.chars().take_while(word).collect();
    match name.len() < reference.len() {
        true => format!("{name}…"),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn expand(text: &str) -> Result<Option<String>, String> {
        Environment(&|name| match name {
            "HOST" => Some("example.com".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}".to_owned()),
            _ => None,
        })
        .expand(text)
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            (
                "http://${HOST}:80/${HOST}",
                "http://example.com:80/example.com",
            ),
            ("${NONE:-fallback}", "fallback"),
            ("${HOST:-fallback}", "example.com"),
            ("${EMPTY:-fallback}|${EMPTY}", "fallback|"),
            ("${NONE:-}", ""),
            ("${NONE:-http://a:1}", "http://a:1"),
            ("$${HOST} is $$${HOST}", "${HOST} is $${HOST}"),
            (
                "$field, $$text, 5$ for ${HOST}$",
                "$field, $$text, 5$ for example.com$",
            ),
            ("${TRICK}", "${HOST}"),
        ] {
            assert_eq!(
                expand(text).expect(text).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        assert_eq!(expand("^/a$ and $1 and $$").expect("no variable"), None);
    }

    #[test]
    fn what_cannot_be_replaced_is_a_problem() {
        for (text, part) in [
            ("${HOST:s3cret", "`${HOST…` does not end"),
            ("${HOST:?s3cret}", "`${HOST…}` is not a variable"),
            ("${NONE}", "the environment has no `NONE`"),
            ("${HOST", "does not end"),
            ("${}", "is not a variable"),
            ("${A B}", "is not a variable"),
            ("${1A}", "is not a variable"),
            ("${HOST:?oops}", "is not a variable"),
        ] {
            let why = expand(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}

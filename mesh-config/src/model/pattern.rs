//! A regular expression that has been compiled, so it is known to be valid and small. It matches in time
//! linear in the text, and has to match the whole of it: `v[12]` does not match `v10`.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// A regular expression over a whole text.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    whole: Regex,
}

impl Pattern {
    /// A pattern that compiles to more than this is refused rather than held for each route.
    const MAX_COMPILED: usize = 1 << 20;

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }

    /// Compiles a text.
    ///
    /// # Errors
    /// Why it is no regular expression.
    pub fn parse(text: &str) -> Result<Self, String> {
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(Self::MAX_COMPILED)
                .build()
        };
        // Compiled by itself first: its own error is what people should read, and `)|(` must not get through.
        let whole = compile(text).and_then(|_| compile(&format!(r"\A(?:{text})\z")));
        match whole {
            Ok(whole) => Ok(Self {
                text: text.to_owned(),
                whole,
            }),
            Err(error) => {
                let last = error.to_string();
                let last = last
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                Err(format!("`{text}` is not a regular expression: {last}"))
            }
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_whole_text_has_to_match() {
        let pattern = Pattern::parse("v[12]|beta").expect("a pattern");
        for (text, expected) in [
            ("v1", true),
            ("beta", true),
            ("v10", false),
            ("xv1", false),
            ("betamax", false),
        ] {
            assert_eq!(pattern.matches(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_pattern_that_is_broken_or_huge_is_refused() {
        for text in ["(", "a)|(b", "(?:a{1000}){1000}", "[z-a]"] {
            let why = Pattern::parse(text).expect_err(text);
            assert!(why.contains("is not a regular expression"), "{why}");
        }
    }
}

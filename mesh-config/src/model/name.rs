//! Names that others see: in metrics, paths of the admin port, command lines. They are letters, digits, `.`,
//! `_` and `-`, start with a letter or digit and have at most 128 of them, so nothing needs quoting anywhere.
//! Service names are those of protobuf: `package.Service`.

use std::fmt;
use std::sync::Arc;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident by $check:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub(crate) fn parse(text: &str) -> Result<Self, String> {
                $check(text).map(|()| Self(Arc::from(text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// The name of a cluster.
    ClusterName by label;
    /// The name of a route.
    RouteName by label;
    /// The name of a response profile.
    ProfileName by label;
    /// The full name of a protobuf service.
    ServiceName by service;
}

fn label(text: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if starts_well && text.len() <= 128 && text.bytes().all(good) {
        return Ok(());
    }
    Err(format!(
        "`{text}` is not a name: use 1 to 128 letters, digits, `.`, `_` and `-`, the first a letter or digit"
    ))
}

fn service(text: &str) -> Result<(), String> {
    let identifier = |part: &str| {
        part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && part.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    };
    if text.split('.').all(identifier) {
        return Ok(());
    }
    Err(format!(
        "`{text}` is not the full name of a service: write package.Service, such as counter.CounterService"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_need_no_quoting() {
        for good in ["a", "counter-canary", "v1.2_x", "9lives"] {
            assert!(RouteName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(RouteName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn services_are_protobuf_names() {
        for good in ["Service", "counter.CounterService", "a.b_c.D9"] {
            assert!(ServiceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "a.", "a..b", "a.9b", "a-b.C", "/a.B"] {
            assert!(ServiceName::parse(bad).is_err(), "{bad}");
        }
    }
}

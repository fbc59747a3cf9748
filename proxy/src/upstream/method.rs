//! A gRPC method that can be called: its path, checked once.
//! Refused: what is not `/package.Service/Method`.

use std::sync::Arc;

/// A method that can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    path: Arc<str>,
}

/// Why there is no such method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the path of a gRPC method: /package.Service/Method")]
pub struct MethodError(String);

// === impl Method ===

impl Method {
    /// The method at `path`, `/package.Service/Method`.
    ///
    /// # Errors
    /// If that cannot be a path.
    pub fn new(path: &str) -> Result<Self, MethodError> {
        let parts = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
        let name = |part: &str| {
            let good =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            !part.is_empty() && part.bytes().all(good)
        };
        match parts {
            Some((service, method)) if name(service) && name(method) => {
                Ok(Self { path: path.into() })
            }
            _ => Err(MethodError(path.to_owned())),
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn only_paths_of_methods() {
        for good in ["/counter.CounterService/GetCounter", "/Service/method_2"] {
            assert_eq!(Method::new(good).unwrap().path(), good);
        }
        for bad in [
            "",
            "/",
            "a/b",
            "/a",
            "/a/",
            "//b",
            "/a/b/c",
            "/a/b?c",
            "/a/b#c",
            "/a b/c",
            "/a/\u{e4}",
            "/a/b\r\n",
        ] {
            assert!(Method::new(bad).is_err(), "{bad} was taken");
        }
    }
}

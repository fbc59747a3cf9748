//! A gRPC method, prepared once for the calls that follow: its path and the headers that all of them share.
//! Refused: paths that are not `/package.Service/Method` and metadata that gRPC reserves.

use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("highpress/", env!("CARGO_PKG_VERSION")));
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A method that can be called.
#[derive(Debug, Clone)]
pub struct Method {
    path: PathAndQuery,
    headers: HeaderMap,
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
        let refused = || MethodError(path.to_owned());
        let parts = path
            .strip_prefix('/')
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(refused)?;
        let bad = |part: &str| part.is_empty() || part.contains(['/', '?', '#']);
        if bad(parts.0) || bad(parts.1) {
            return Err(refused());
        }
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(TE, TRAILERS);
        headers.insert(CONTENT_TYPE, GRPC);
        headers.insert(USER_AGENT, AGENT);
        Ok(Self {
            path: path.parse().map_err(|_| refused())?,
            headers,
        })
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// One request of it.
    pub(crate) fn request(
        &self,
        authority: &Authority,
        metadata: &[(HeaderName, HeaderValue)],
        timeout: HeaderValue,
    ) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.uri(authority);
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.reserve(metadata.len() + 1);
        headers.insert(TIMEOUT, timeout);
        for (name, value) in metadata {
            headers.append(name, value.clone());
        }
        request
    }

    fn uri(&self, authority: &Authority) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority.clone());
        parts.path_and_query = Some(self.path.clone());
        // All three parts are there, which is all that can be missing.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn only_paths_of_methods() {
        assert_eq!(
            Method::new("/counter.CounterService/GetCounter")
                .unwrap()
                .path(),
            "/counter.CounterService/GetCounter"
        );
        for bad in [
            "", "/", "a/b", "/a", "/a/", "//b", "/a/b/c", "/a/b?c", "/a/b#c", "/a b/c",
        ] {
            assert!(Method::new(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_request_has_what_grpc_asks_for() {
        let method = Method::new("/a.B/C").unwrap();
        let metadata = [(
            HeaderName::from_static("x-request-id"),
            HeaderValue::from_static("7"),
        )];
        let authority = Authority::from_static("backend:50051");
        let request = method.request(&authority, &metadata, HeaderValue::from_static("1S"));
        assert_eq!(request.uri(), "http://backend:50051/a.B/C");
        for (name, value) in [
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", "1S"),
            ("x-request-id", "7"),
        ] {
            assert_eq!(request.headers()[name], value);
        }
    }
}

//! What browsers ask before, and are told after, scripts of other sites call a route (the CORS protocol,
//! <https://fetch.spec.whatwg.org/#http-cors-protocol>). Browsers enforce it, not the gateway: a request of an origin that is not
//! allowed is answered like any other, without the words that would let its script read the answer.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderName, HeaderValue, Method};
use mesh_config::model::{self, Origin};

use crate::edge::{Answer, Head, Headers};

/// What clients of gRPC-Web and Connect read of answers, and what ties one to the log.
const EXPOSED: &str = "grpc-status, grpc-message, grpc-status-details-bin, grpc-encoding, \
                       connect-content-encoding, retry-after, x-request-id";
/// What the gateway says of an answer, in place of a backend.
pub(crate) const OURS: [HeaderName; 3] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
];

/// What one route tells browsers.
#[derive(Debug)]
pub(crate) struct Cors {
    rules: Arc<model::Cors>,
    headers: Option<HeaderValue>,
    exposed: HeaderValue,
}

impl Cors {
    /// What a route says.
    pub(crate) fn new(rules: &Arc<model::Cors>) -> Self {
        let listed = |names: &[String]| HeaderValue::try_from(names.join(", ")).ok();
        let exposed: Vec<String> = [EXPOSED.to_owned()]
            .into_iter()
            .chain(rules.expose.iter().cloned())
            .collect();
        Self {
            headers: listed(&rules.headers).filter(|_| !rules.headers.is_empty()),
            exposed: listed(&exposed).unwrap_or(HeaderValue::from_static(EXPOSED)),
            rules: Arc::clone(rules),
        }
    }

    /// What stands in an answer to a request of that origin.
    pub(crate) fn answer(
        &self,
        origin: Option<&[u8]>,
        headers: &mut impl Extend<(HeaderName, HeaderValue)>,
    ) {
        let any = self.rules.origins == [Origin::Any];
        if !any {
            headers.extend([(VARY, HeaderValue::from_static("origin"))]);
        }
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else {
            return;
        };
        let told = match any {
            true => Ok(HeaderValue::from_static("*")),
            false => HeaderValue::from_bytes(origin),
        };
        let Ok(told) = told else {
            return;
        };
        headers.extend([
            (ACCESS_CONTROL_ALLOW_ORIGIN, told),
            (ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone()),
        ]);
        if self.rules.credentials {
            let yes = HeaderValue::from_static("true");
            headers.extend([(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes)]);
        }
    }

    /// The answer to a browser that asks whether a script may make a request by this method.
    pub(crate) fn preflight(&self, head: &Head, method: &Method) -> Answer {
        let mut headers = Headers::new();
        let origin = head.header("origin");
        self.answer(origin, &mut headers);
        headers.retain(|(name, _)| *name != ACCESS_CONTROL_EXPOSE_HEADERS);
        if origin.is_some_and(|origin| self.allows(origin)) {
            let asked = head.header("access-control-request-headers");
            let asked = asked.and_then(|names| HeaderValue::from_bytes(names).ok());
            let method = HeaderValue::try_from(method.as_str()).ok();
            let max_age = HeaderValue::from(self.rules.max_age.get().as_secs());
            headers.extend(method.map(|method| (ACCESS_CONTROL_ALLOW_METHODS, method)));
            headers.extend(
                self.headers
                    .clone()
                    .or(asked)
                    .map(|names| (ACCESS_CONTROL_ALLOW_HEADERS, names)),
            );
            headers.push((ACCESS_CONTROL_MAX_AGE, max_age));
        }
        Answer {
            status: 204,
            headers,
            ..Answer::default()
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        let origin = std::str::from_utf8(origin).unwrap_or_default();
        !origin.is_empty() && self.rules.origins.iter().any(|allowed| allowed.is(origin))
    }
}

/// The method of the request that a browser asks about first.
pub(crate) fn asked(head: &Head) -> Option<Method> {
    if *head.method() != Method::OPTIONS || head.header("origin").is_none() {
        return None;
    }
    Method::from_bytes(head.header("access-control-request-method")?).ok()
}

//! What clients of gRPC speak, by the content type of their requests.

use http::HeaderValue;

use super::get;
use crate::edge::Head;

/// The encoding that backends read.
const PROTO: &str = "+proto";

/// A way to carry gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `application/grpc`: the status is in the trailers.
    Grpc,
    /// `application/grpc-web`: it is a last message.
    Web,
    /// `application/grpc-web-text`: the same in base64.
    WebText,
    /// `application/proto` and JSON: a message is the body of a POST, and a failure an answer in JSON.
    Connect,
    /// `application/connect`: enveloped messages, the last of which has the status.
    ConnectStream,
}

/// A dialect, and how the messages in it are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spoken<'h> {
    /// That of the request.
    pub(crate) dialect: Dialect,
    /// That of the answer: clients of gRPC-Web may ask for another one.
    pub(crate) answer: Dialect,
    /// `+proto` and the like, or nothing.
    pub(crate) encoding: &'h str,
}

impl Dialect {
    /// How people call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "gRPC",
            Self::Web => "gRPC-Web",
            Self::WebText => "gRPC-Web as text",
            Self::Connect => "Connect",
            Self::ConnectStream => "Connect's streams",
        }
    }
}

/// Longest first.
const TYPES: [(&str, Dialect); 4] = [
    ("application/connect", Dialect::ConnectStream),
    ("application/grpc-web-text", Dialect::WebText),
    ("application/grpc-web", Dialect::Web),
    ("application/grpc", Dialect::Grpc),
];

/// Said by clients of Connect, whose unary calls look like any POST of JSON.
pub(crate) const CONNECT_VERSION: &str = "connect-protocol-version";

impl<'h> Spoken<'h> {
    /// What the client of a request speaks, if that is gRPC. `only_grpc`: the row takes nothing else, so that a plain POST of
    /// JSON is a call of Connect, too.
    pub(crate) fn of(head: &'h Head, only_grpc: bool) -> Option<Self> {
        if get::is_get(head) {
            return Self::of_get(head);
        }
        let connects = only_grpc || head.header(CONNECT_VERSION).is_some();
        Self::read(
            head.header("content-type")?,
            head.header("accept"),
            connects,
        )
    }

    /// The same of a call by GET.
    fn of_get(head: &Head) -> Option<Self> {
        let encoding = match get::encoding(head)?.as_slice() {
            b"proto" => PROTO,
            b"json" => "+json",
            _ => return None,
        };
        Some(Self {
            dialect: Dialect::Connect,
            answer: Dialect::Connect,
            encoding,
        })
    }

    /// The same of the values of `content-type` and `accept`. `connects`: JSON is Connect's.
    pub(crate) fn read(
        content_type: &'h [u8],
        accept: Option<&[u8]>,
        connects: bool,
    ) -> Option<Self> {
        if let Some(encoding) = plain(content_type)
            && (connects || encoding == PROTO)
        {
            return Some(Self {
                dialect: Dialect::Connect,
                answer: Dialect::Connect,
                encoding,
            });
        }
        let (dialect, encoding) = dialect(content_type)?;
        let is_web = matches!(dialect, Dialect::Web | Dialect::WebText);
        let asked = accept
            .filter(|_| is_web)
            .into_iter()
            .flat_map(|accept| accept.split(|byte| *byte == b','))
            .find_map(|kind| dialect_of(kind.trim_ascii()));
        Some(Self {
            dialect,
            answer: asked.unwrap_or(dialect),
            encoding,
        })
    }

    /// Whether messages are JSON, which is not the backend's way.
    pub(crate) fn is_json(&self) -> bool {
        let connects = matches!(self.dialect, Dialect::Connect | Dialect::ConnectStream);
        connects && self.encoding != PROTO
    }

    /// The content type of answers.
    pub(crate) fn content_type(&self) -> HeaderValue {
        if self.answer == Dialect::Connect {
            return HeaderValue::from_static(match self.is_json() {
                true => "application/json",
                false => "application/proto",
            });
        }
        let kind = TYPES.iter().find(|(_, dialect)| *dialect == self.answer);
        let kind = kind.map_or("application/grpc", |(kind, _)| *kind);
        // Clients of gRPC-Web want to be told; those of gRPC compare with what they sent.
        let encoding = match (self.answer, self.encoding) {
            (Dialect::Web | Dialect::WebText, "") => "+proto",
            (_, encoding) => encoding,
        };
        let fallback = HeaderValue::from_static("application/grpc");
        HeaderValue::try_from(format!("{kind}{encoding}")).unwrap_or(fallback)
    }
}

/// How the message of a unary call of Connect is encoded, if its type is one of Connect's.
fn plain(content_type: &[u8]) -> Option<&'static str> {
    let kind = content_type.split(|byte| *byte == b';').next()?;
    let kind = kind.trim_ascii();
    [("application/proto", PROTO), ("application/json", "+json")]
        .into_iter()
        .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(kind))
        .map(|(_, encoding)| encoding)
}

/// Only a dialect of the web can be asked for.
fn dialect_of(kind: &[u8]) -> Option<Dialect> {
    let (dialect, _) = dialect(kind)?;
    matches!(dialect, Dialect::Web | Dialect::WebText).then_some(dialect)
}

fn dialect(content_type: &[u8]) -> Option<(Dialect, &str)> {
    TYPES.iter().find_map(|(kind, dialect)| {
        let (start, rest) = content_type.split_at_checked(kind.len())?;
        let end = rest.iter().position(|byte| matches!(byte, b';' | b' '));
        let encoding = std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]).ok()?;
        let fits = start.eq_ignore_ascii_case(kind.as_bytes())
            && match dialect {
                Dialect::ConnectStream => [PROTO, "+json"].contains(&encoding),
                _ => encoding.is_empty() || encoding.starts_with('+'),
            };
        fits.then_some((*dialect, encoding))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_say_what_is_spoken() {
        let spoken = |kind: &'static str| {
            let spoken = Spoken::read(kind.as_bytes(), None, false)?;
            let content_type = spoken.content_type().to_str().map(str::to_owned);
            Some((spoken.dialect, content_type.unwrap_or_default()))
        };
        for (kind, dialect, answer) in [
            ("application/grpc", Dialect::Grpc, "application/grpc"),
            (
                "Application/gRPC+json; a=b",
                Dialect::Grpc,
                "application/grpc+json",
            ),
            (
                "application/grpc-web",
                Dialect::Web,
                "application/grpc-web+proto",
            ),
            (
                "application/grpc-web+proto",
                Dialect::Web,
                "application/grpc-web+proto",
            ),
            (
                "application/grpc-web-text",
                Dialect::WebText,
                "application/grpc-web-text+proto",
            ),
        ] {
            assert_eq!(spoken(kind), Some((dialect, answer.to_owned())), "{kind}");
        }
        for none in [
            "",
            "application/json",
            "application/grpcx",
            "application/grpc-webby",
            "application/connect",
            "application/connect+xml",
        ] {
            assert_eq!(spoken(none), None, "{none}");
        }
        let asked = Spoken::read(
            b"application/grpc-web-text",
            Some(b"*/*, application/grpc-web"),
            false,
        );
        assert_eq!(asked.map(|asked| asked.answer), Some(Dialect::Web));
    }
}

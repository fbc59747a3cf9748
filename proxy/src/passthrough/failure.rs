//! What pingora's errors say of a request that was on its way to a backend, or there.

use http::Method;
use pingora_core::{Error, ErrorSource, ErrorType};

use crate::edge::Refusal;

/// What pingora is told of a body that is longer than the listeners take.
pub(super) const TOO_LARGE: ErrorType = ErrorType::new("the request body is too large");

/// What pingora calls a chunked body that is none.
const INVALID_CHUNK: ErrorType = ErrorType::new("InvalidChunk");

/// What a client is told whose header pingora does not pass on.
const UNFIT: Refusal = Refusal::BadRequest("the header nominates fields that cannot be dropped");

/// What a client is told whose chunked body cannot be read.
const MALFORMED: Refusal = Refusal::BadRequest("the chunked body is malformed");

/// How an exchange with a backend broke before there was anything of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody waits for an answer any more.
    Left,
    /// The request is not one that can be passed on.
    Invalid(Refusal),
    /// The backend refused the stream unprocessed.
    RefusedStream,
    /// The backend closes the connection, and has not looked at this stream.
    GoneAway,
    /// The connection or the stream broke.
    Reset,
    /// What came is not HTTP.
    Garbled,
    /// Nothing was heard for too long.
    Silent,
    /// It broke in here.
    Internal,
}

// === impl Failure ===

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        match error.esource() {
            ErrorSource::Downstream => return Self::of_client(error.root_etype()),
            ErrorSource::Internal => return Self::Internal,
            ErrorSource::Upstream | ErrorSource::Unset => {}
        }
        if let Some(error) = error.root_cause().downcast_ref::<h2::Error>() {
            return Self::of_http2(error);
        }
        match error.root_etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Self::Silent,
            ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H1Error => {
                Self::Garbled
            }
            ErrorType::InternalError => Self::Internal,
            _ => Self::Reset,
        }
    }

    fn of_client(what: &ErrorType) -> Self {
        match *what {
            ErrorType::InvalidHTTPHeader => Self::Invalid(UNFIT),
            TOO_LARGE => Self::Invalid(Refusal::BodyTooLarge),
            INVALID_CHUNK => Self::Invalid(MALFORMED),
            _ => Self::Left,
        }
    }

    fn of_http2(error: &h2::Error) -> Self {
        if error.is_go_away() && error.is_remote() {
            Self::GoneAway
        } else if error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            Self::RefusedStream
        } else if error.is_go_away() && error.is_library() {
            Self::Garbled
        } else {
            Self::Reset
        }
    }
}

/// Whether it does no harm to send such a request twice (RFC 9110 section 9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// What went wrong, in few words.
pub(super) fn words(error: &Error) -> String {
    let cause = error.root_cause();
    match cause.downcast_ref::<Error>() {
        Some(error) => match &error.context {
            Some(context) => format!("{} {}", error.etype().as_str(), context.as_str()),
            None => error.etype().as_str().to_owned(),
        },
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is_comes_first() {
        let error = |etype: ErrorType| Error::explain(etype, "x");
        let left = error(ErrorType::ReadError).into_down();
        assert_eq!(Failure::of(&left), Failure::Left);
        let invalid = error(ErrorType::InvalidHTTPHeader);
        assert_eq!(Failure::of(&invalid.into_down()), Failure::Invalid(UNFIT));
        let unreadable = error(INVALID_CHUNK).into_down();
        assert_eq!(Failure::of(&unreadable), Failure::Invalid(MALFORMED));
        let garbled = error(ErrorType::InvalidHTTPHeader);
        assert_eq!(Failure::of(&garbled.into_up()), Failure::Garbled);
    }

    #[test]
    fn what_http2_says_is_heard_through_its_wrapping() {
        let wrapped = |reason| Error::because(ErrorType::H2Error, "x", h2::Error::from(reason));
        // Made here, it is a reset by nobody in particular.
        assert_eq!(
            Failure::of(&wrapped(h2::Reason::INTERNAL_ERROR).into_up()),
            Failure::Reset
        );
    }
}

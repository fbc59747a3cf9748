//! Errors as callers see them: a gRPC status with a sentence for people and `google.rpc` details for programs.
//!
//! Which fields are wrong travels as `BadRequest`, everything else as `ErrorInfo` with a fixed reason word, both in
//! `grpc-status-details-bin`: <https://google.aip.dev/193>.

use prost::Message as _;
use proto::rpc::bad_request::FieldViolation;
use proto::rpc::{BadRequest, ErrorInfo, Status as RichStatus};
use tonic::{Code, Status};

use crate::store::StoreError;

/// The `domain` of every `ErrorInfo` of the mesh.
const DOMAIN: &str = "highpress";

/// One wrong field: its path in the request and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) why: String,
}

/// INVALID_ARGUMENT that names every wrong field.
pub(crate) fn invalid(violations: Vec<Violation>) -> Status {
    let sentence = violations
        .iter()
        .map(|violation| format!("{} {}", violation.field, violation.why))
        .collect::<Vec<_>>()
        .join("; ");
    let field_violations = violations
        .into_iter()
        .map(|violation| FieldViolation {
            field: violation.field,
            description: violation.why,
            ..FieldViolation::default()
        })
        .collect();
    let detail = BadRequest { field_violations };
    rich(
        Code::InvalidArgument,
        sentence,
        "google.rpc.BadRequest",
        detail.encode_to_vec(),
    )
}

/// What a store's error means to the caller.
pub(crate) fn from_store(error: &StoreError) -> Status {
    let (code, reason) = match error {
        StoreError::Braces => {
            return invalid(vec![Violation {
                field: "resource_id".to_owned(),
                why: "must not contain braces when counts are in a Redis cluster".to_owned(),
            }]);
        }
        StoreError::OutboxFull { .. } => (Code::ResourceExhausted, "OUTBOX_FULL"),
        StoreError::Overflow { .. } => (Code::OutOfRange, "COUNTER_OVERFLOW"),
        StoreError::NotACount { .. } => (Code::FailedPrecondition, "NOT_A_COUNT"),
        StoreError::KeyReused { .. } => (Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED"),
        StoreError::KeysFull { .. } => (Code::ResourceExhausted, "IDEMPOTENCY_KEYS_FULL"),
        StoreError::Unavailable(_) => (Code::Unavailable, "STORE_UNAVAILABLE"),
        StoreError::OutcomeUnknown(_) => (Code::Unavailable, "OUTCOME_UNKNOWN"),
        StoreError::Broken(_) => (Code::Internal, "STORE_BROKEN"),
    };
    let detail = ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
        ..ErrorInfo::default()
    };
    rich(
        code,
        error.to_string(),
        "google.rpc.ErrorInfo",
        detail.encode_to_vec(),
    )
}

fn rich(code: Code, message: String, detail_type: &str, detail: Vec<u8>) -> Status {
    let status = RichStatus {
        code: code as i32,
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: format!("type.googleapis.com/{detail_type}"),
            value: detail,
        }],
    };
    Status::with_details(code, message, status.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_field_violation_can_be_read_back() {
        let status = invalid(vec![Violation {
            field: "items[3].counter_type".to_owned(),
            why: "must not be empty".to_owned(),
        }]);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "items[3].counter_type must not be empty");
        let rich = RichStatus::decode(status.details()).unwrap();
        assert_eq!((rich.code, rich.message.as_str()), (3, status.message()));
        assert_eq!(
            rich.details[0].type_url,
            "type.googleapis.com/google.rpc.BadRequest"
        );
        let detail = BadRequest::decode(rich.details[0].value.as_slice()).unwrap();
        assert_eq!(detail.field_violations[0].field, "items[3].counter_type");
    }

    #[test]
    fn an_unknown_outcome_is_never_the_callers_fault() {
        let status = from_store(&StoreError::OutcomeUnknown("the connection broke".into()));
        assert_eq!(status.code(), Code::Unavailable);
        let rich = RichStatus::decode(status.details()).unwrap();
        let detail = ErrorInfo::decode(rich.details[0].value.as_slice()).unwrap();
        assert_eq!(
            (detail.reason.as_str(), detail.domain.as_str()),
            ("OUTCOME_UNKNOWN", "highpress")
        );
    }
}

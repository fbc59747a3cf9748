//! gRPC status codes: their names, their HTTP statuses, and the way back.
//!
//! The tables are those of `google/rpc/code.proto` (gRPC to HTTP) and of gRPC's
//! `http-grpc-status-mapping.md` (HTTP to gRPC, for answers that carry no `grpc-status`).
//! A code that no table knows counts as `UNKNOWN`, as gRPC libraries treat it.

/// A canonical gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are gRPC's own")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Every code, its name on the wire of JSON, and its HTTP status; the index is the number.
const TABLE: [(Code, &str, u16); 17] = [
    (Code::Ok, "OK", 200),
    (Code::Cancelled, "CANCELLED", 499),
    (Code::Unknown, "UNKNOWN", 500),
    (Code::InvalidArgument, "INVALID_ARGUMENT", 400),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    (Code::NotFound, "NOT_FOUND", 404),
    (Code::AlreadyExists, "ALREADY_EXISTS", 409),
    (Code::PermissionDenied, "PERMISSION_DENIED", 403),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", 429),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", 400),
    (Code::Aborted, "ABORTED", 409),
    (Code::OutOfRange, "OUT_OF_RANGE", 400),
    (Code::Unimplemented, "UNIMPLEMENTED", 501),
    (Code::Internal, "INTERNAL", 500),
    (Code::Unavailable, "UNAVAILABLE", 503),
    (Code::DataLoss, "DATA_LOSS", 500),
    (Code::Unauthenticated, "UNAUTHENTICATED", 401),
];

impl Code {
    /// The code of this number; `Unknown` for a number that gRPC does not define.
    pub fn from_number(number: u32) -> Code {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        TABLE.get(index).map_or(Code::Unknown, |row| row.0)
    }

    /// The code of this name (`NOT_FOUND`; any letter case, `CANCELED` too), if there is one.
    pub fn from_name(name: &str) -> Option<Code> {
        if name.eq_ignore_ascii_case("CANCELED") {
            return Some(Code::Cancelled);
        }
        let row = TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name))?;
        Some(row.0)
    }

    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The name, as `google.rpc.Code` spells it.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The HTTP status that `google/rpc/code.proto` gives it.
    pub fn http_status(self) -> u16 {
        TABLE[self as usize].2
    }

    /// What an HTTP answer without `grpc-status` means to a gRPC client.
    pub fn from_http_status(status: u16) -> Code {
        match status {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_code_survives_its_number_and_its_name() {
        for (index, (code, name, _)) in TABLE.into_iter().enumerate() {
            assert_eq!(code.number() as usize, index);
            assert_eq!(Code::from_number(code.number()), code);
            assert_eq!(Code::from_name(name), Some(code));
            assert_eq!(Code::from_name(&name.to_lowercase()), Some(code));
            assert_eq!(code.name(), name);
        }
    }

    #[test]
    fn http_statuses_are_those_of_code_proto() {
        let expected = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        let actual: Vec<u16> = (0..17)
            .map(|n| Code::from_number(n).http_status())
            .collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn what_is_not_a_code_is_unknown() {
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(Code::from_number(u32::MAX), Code::Unknown);
        assert_eq!(Code::from_name("TEAPOT"), None);
        assert_eq!(Code::from_http_status(418), Code::Unknown);
        assert_eq!(Code::from_http_status(503), Code::Unavailable);
    }
}

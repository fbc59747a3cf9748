#![allow(clippy::unwrap_used, clippy::expect_used)]
use proptest::prelude::*;

use super::*;

/// Fields of one block.
fn fields(entries: &[(&'static str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in entries {
        if !fields.take(name.as_bytes(), value.as_bytes()) {
            fields.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
    }
    fields
}

fn reply(fields: Fields) -> Result<Reply, CallError> {
    fields.into_reply(Assembly::new(0))
}

#[test]
fn codes_are_small_decimal_numbers() {
    for (text, code) in [
        ("0", 0),
        ("5", 5),
        ("10", 10),
        ("16", 16),
        ("17", 2),
        ("", 2),
        ("-1", 2),
        ("00", 2),
        ("1x", 2),
    ] {
        assert_eq!(parse_code(text.as_bytes()), code, "{text:?}");
    }
}

#[test]
fn a_failure_comes_with_message_and_details() {
    let entries = [
        ("grpc-status", "5"),
        ("grpc-message", "no%20%C3%A4pple"),
        ("grpc-status-details-bin", "CAU"),
        ("x", "y"),
        ("date", "now"),
    ];
    let reply = reply(fields(&entries)).unwrap();
    assert_eq!((reply.code, reply.message.as_str()), (5, "no äpple"));
    assert_eq!(reply.details.as_deref(), Some(&[8u8, 5][..]));
    assert_eq!(
        (reply.trailers.len(), &reply.trailers["x"]),
        (1, &HeaderValue::from_static("y"))
    );
}

#[test]
fn without_a_status_there_is_no_reply() {
    let error = reply(fields(&[("grpc-message", "hello")])).unwrap_err();
    assert!(matches!(error, CallError::NoStatus));
}

#[test]
fn details_may_be_padded_and_may_be_nonsense() {
    assert_eq!(decode_binary(b"CAU=").as_deref(), Some(&[8u8, 5][..]));
    assert_eq!(decode_binary(b"CAU").as_deref(), Some(&[8u8, 5][..]));
    assert_eq!(decode_binary(b"CAU=, CAY=").as_deref(), Some(&[8u8, 5][..]));
    assert_eq!(decode_binary(b"not base64!"), None);
}

#[test]
fn messages_are_decoded_leniently() {
    for (text, decoded) in [
        ("", ""),
        ("plain", "plain"),
        ("100%", "100%"),
        ("%4", "%4"),
        ("%zz%41", "%zzA"),
        ("%ff", "\u{fffd}"),
    ] {
        assert_eq!(percent_decode(text.as_bytes()), decoded);
    }
}

#[test]
fn heads_that_are_not_grpc() {
    for good in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc; charset=utf-8",
        "Application/GRPC",
    ] {
        fields(&[("content-type", good)]).check_head(200).unwrap();
    }
    for bad in ["", "text/html", "application/grpc-web", "application/json"] {
        assert!(
            fields(&[("content-type", bad)]).check_head(200).is_err(),
            "{bad} was taken"
        );
    }
    let error = fields(&[("content-type", "text/plain")])
        .check_head(404)
        .unwrap_err();
    assert_eq!(error.grpc_code(), code::UNIMPLEMENTED);
    fields(&[("grpc-status", "5")]).check_head(404).unwrap();
}

proptest! {
    #[test]
    fn encoded_messages_come_back(text in "\\PC{0,40}") {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        prop_assert_eq!(percent_decode(encoded.as_bytes()), text);
    }

    #[test]
    fn no_message_and_no_details_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        percent_decode(&bytes);
        decode_binary(&bytes);
        parse_code(&bytes);
    }

    #[test]
    fn details_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40), padded: bool) {
        let encoded = if padded { base64::engine::general_purpose::STANDARD.encode(&bytes) }
            else { base64::engine::general_purpose::STANDARD_NO_PAD.encode(&bytes) };
        prop_assert_eq!(decode_binary(encoded.as_bytes()).unwrap(), bytes);
    }
}

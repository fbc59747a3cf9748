#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

fn head() -> Head {
    Head::new(([127, 0, 0, 1], 1).into(), 0)
}

/// Gives `bytes` to a scanner in pieces of `size`, as reads would.
fn parse_in_pieces(bytes: &[u8], size: usize) -> (Result<Option<Framing>, Refusal>, Head) {
    let (mut scanner, mut head) = (Scanner::default(), head());
    let limits = EdgeLimits::default();
    let mut parsed = Ok(None);
    for piece in bytes.chunks(size) {
        head.buffer.extend_from_slice(piece);
        parsed = scanner.advance(&mut head, &limits);
        if parsed != Ok(None) {
            break;
        }
    }
    (parsed, head)
}

#[test]
fn a_head_is_the_same_however_it_comes() {
    let request = b"\r\nPOST /a/b?c=d?e HTTP/1.1\r\nHost: Ex.org:80\r\nX-Y:  z \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for size in 1..request.len() {
        let (parsed, head) = parse_in_pieces(request, size);
        let framing = Framing {
            body: Body::Chunked,
            keep_alive: true,
            expects_continue: false,
        };
        assert_eq!(parsed, Ok(Some(framing)), "in pieces of {size}");
        assert_eq!(
            (head.path(), head.query(), head.host()),
            ("/a/b", Some("c=d?e"), "Ex.org")
        );
        assert_eq!(head.authority(), "Ex.org:80");
        assert_eq!(head.header("x-y"), Some(&b"z"[..]));
        assert!(head.buffer[..head.end].ends_with(b"\r\n\r\n"));
    }
}

#[test]
fn what_is_wrong_is_known_before_the_head_is_whole() {
    for start in [
        "GET / HTTP/1.1\n",
        "GET /x\r\n",
        "GET / HTTP/3.0\r\n",
        "GET / HTTP/1.1\r\nA: b\nC",
        "\r\n\r\n",
        "\x16\x03\x01",
    ] {
        assert!(parse_in_pieces(start.as_bytes(), 1).0.is_err(), "{start:?}");
    }
}

#[test]
fn a_dribbled_head_is_looked_at_once() {
    let (mut scanner, mut head) = (Scanner::default(), head());
    let limits = EdgeLimits {
        header_bytes: 1_000_000,
        ..EdgeLimits::default()
    };
    head.buffer.extend_from_slice(b"GET / HTTP/1.1\r\nA: ");
    for _ in 0..900_000 {
        head.buffer.push(b'x');
        assert_eq!(scanner.advance(&mut head, &limits), Ok(None));
    }
}

type Fields = Vec<(String, Vec<u8>)>;

/// What `httparse`, a lenient parser, makes of a head.
fn oracle(bytes: &[u8]) -> Option<(usize, Fields)> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(end)) = request.parse(bytes) else {
        return None;
    };
    let fields = request
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()));
    Some((end, fields.collect()))
}

fn near_requests() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"GET ",
        b"/path?q ",
        b"HTTP/1.1\r\n",
        b"HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"X-A: b\r\n",
        b"y:\t z \r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: 7\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ];
    let piece = prop_oneof![
        6 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in 1..50usize) {
        parse_in_pieces(&bytes, size).0.ok();
    }

    /// What is accepted here means the same to another parser, and does not depend on the pieces.
    #[test]
    fn what_is_accepted_is_not_in_doubt(bytes in near_requests(), size in 1..50usize) {
        let (parsed, head) = parse_in_pieces(&bytes, bytes.len().max(1));
        let (in_pieces, _) = parse_in_pieces(&bytes, size);
        prop_assert_eq!(parsed.is_ok(), in_pieces.is_ok());
        if let Ok(Some(_)) = parsed {
            prop_assert_eq!(in_pieces, parsed);
            let skipped = bytes.len() - head.buffer.len();
            let (end, fields) = oracle(&bytes[skipped..]).expect("the other parser takes it too");
            prop_assert_eq!(end, head.end);
            let own: Fields = head.headers().map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())).collect();
            prop_assert_eq!(own, fields);
        }
    }
}

//! Random bytes against a running edge: whatever comes, the connection ends.

use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;

use super::hostile::limits;
use super::support::{PATIENCE, TestEdge, read_until_quiet, start};
use crate::edge::EdgeLimits;

/// Pieces that make requests nearly right, so that random ones get deep.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /echo HTTP/1.1\r\nHost: a\r\n",
        b"Host: a\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: 3\r\n\r\n",
        b"Content-Length: ",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"2;x\r\n",
        b": ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\x04\0\0\0\0\0",
        b"\0\0\x05\x01\x05\0\0\0\x01",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
    ];
    prop_oneof![
        4 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_comes_the_connection_ends(fragments in proptest::collection::vec(fragment(), 0..12)) {
        thread_local! {
            static EDGE: TestEdge = start(EdgeLimits {
                header_timeout: Duration::from_millis(50),
                body_timeout: Duration::from_millis(50),
                idle_timeout: Duration::from_millis(50),
                ..limits()
            });
        }
        let bytes = fragments.concat();
        EDGE.with(|edge| {
            let mut client = edge.connect();
            // The edge may have closed before all is sent.
            client.write_all(&bytes).ok();
            let (answer, closed) = read_until_quiet(&mut client, PATIENCE);
            assert!(closed, "kept open after {bytes:?}: {answer:?}");
        });
    }
}

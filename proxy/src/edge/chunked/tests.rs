#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

/// A body, and what lay behind it.
type Decoded = (Vec<u8>, Vec<u8>);

const START: usize = 5;

/// Decodes a body that comes in pieces, as a session does; gives the data and what lies behind it.
fn decode(bytes: &[u8], size: usize, max_body: usize) -> Result<Option<Decoded>, Refusal> {
    let mut buffer = vec![b'h'; START];
    let mut chunked = Chunked::new();
    let mut written = START;
    for (index, piece) in bytes.chunks(size).enumerate() {
        buffer.extend_from_slice(piece);
        let progress = chunked.decode(&mut buffer, START, written, written, max_body)?;
        written = progress.written;
        assert!(written - START <= max_body);
        if progress.done {
            let behind = [
                &buffer[progress.read..],
                &bytes[((index + 1) * size).min(bytes.len())..],
            ]
            .concat();
            return Ok(Some((buffer[START..written].to_vec(), behind)));
        }
        assert_eq!(progress.read, buffer.len());
        buffer.truncate(written);
    }
    Ok(None)
}

#[test]
fn decodes_in_place_and_leaves_what_is_behind() {
    let body = b"4\r\nWiki\r\n6;x=\"y\"\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nA: b\r\nC: d\r\n\r\nGET";
    for size in 1..body.len() + 1 {
        let (data, behind) = decode(body, size, 100).unwrap().unwrap();
        assert_eq!(
            (data.as_slice(), behind.as_slice()),
            (&b"Wikipedia in \r\n\r\nchunks."[..], &b"GET"[..])
        );
    }
}

#[test]
fn a_body_ends_at_its_limit() {
    let body = b"4\r\nWiki\r\n6\r\npedia \r\n0\r\n\r\n";
    assert!(decode(body, 3, 10).unwrap().is_some());
    assert_eq!(decode(body, 3, 9), Err(Refusal::BodyTooLarge));
    assert_eq!(decode(b"ffffffff\r\n", 1, 9), Err(Refusal::BodyTooLarge));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        data in proptest::collection::vec(any::<u8>(), 0..300),
        chunk in 1..80usize,
        size in 1..80usize,
    ) {
        let mut body = Vec::new();
        for piece in data.chunks(chunk) {
            body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\nmore");
        prop_assert_eq!(decode(&body, size, 300).unwrap(), Some((data, b"more".to_vec())));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1..50usize) {
        decode(&bytes, size, 50).ok();
    }

    #[test]
    fn the_pieces_do_not_matter(bytes in "[0-3a;\r\n x]{0,40}", size in 1..20usize) {
        prop_assert_eq!(decode(bytes.as_bytes(), size, 50), decode(bytes.as_bytes(), bytes.len().max(1), 50));
    }
}

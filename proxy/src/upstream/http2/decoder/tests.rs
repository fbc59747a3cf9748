#![allow(clippy::unwrap_used, clippy::expect_used)]
use proptest::prelude::*;

use super::super::huffman::tests::encode as huffman;
use super::*;

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Broken> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.decode(block, |name, value| fields.push((text(name), text(value))))?;
    Ok(fields)
}

fn assert_fields(decoder: &mut Decoder, block: &[u8], expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(fields(decoder, block).unwrap(), expected);
}

fn literal(first: u8, name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![first];
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// RFC 7541, C.3: three requests on one connection.
#[test]
fn requests_of_the_rfc() {
    let mut decoder = Decoder::new();
    let first = [&[0x82, 0x86, 0x84, 0x41, 0x0f][..], b"www.example.com"].concat();
    let common = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    assert_fields(&mut decoder, &first, &common);
    let second = [&[0x82, 0x86, 0x84, 0xbe, 0x58, 0x08][..], b"no-cache"].concat();
    assert_fields(
        &mut decoder,
        &second,
        &[&common[..], &[("cache-control", "no-cache")]].concat(),
    );
    let third = [
        &[0x82, 0x87, 0x85, 0xbf, 0x40, 0x0a][..],
        b"custom-key",
        &[0x0c],
        b"custom-value",
    ]
    .concat();
    let expected = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    assert_fields(&mut decoder, &third, &expected);
    assert_eq!((decoder.size, decoder.table.len()), (164, 3));
}

/// RFC 7541, C.6: responses with Huffman code and a table of 256 bytes, so that entries are evicted.
#[test]
fn responses_of_the_rfc() {
    let mut decoder = Decoder::new();
    let date = "Mon, 21 Oct 2013 20:13:21 GMT";
    let mut first = vec![0x3f, 0xe1, 0x01];
    for (index, value) in [
        (0x48, "302"),
        (0x58, "private"),
        (0x61, date),
        (0x6e, "https://www.example.com"),
    ] {
        let encoded = huffman(value.as_bytes());
        first.push(index);
        first.push(0x80 | u8::try_from(encoded.len()).unwrap());
        first.extend(encoded);
    }
    let rest = [
        ("cache-control", "private"),
        ("date", date),
        ("location", "https://www.example.com"),
    ];
    assert_fields(
        &mut decoder,
        &first,
        &[&[(":status", "302")], &rest[..]].concat(),
    );
    assert_eq!(decoder.size, 222);
    let second = [0x48, 0x83, 0x64, 0x0e, 0xff, 0xc1, 0xc0, 0xbf];
    assert_fields(
        &mut decoder,
        &second,
        &[&[(":status", "307")], &rest[..]].concat(),
    );
    assert_eq!((decoder.size, decoder.table.len()), (222, 4));
}

#[test]
fn blocks_that_break_the_rules() {
    let late_resize = [&[0x88][..], &[0x20]].concat();
    for (what, block) in [
        ("index 0", &[0x80][..]),
        ("an index beyond the table", &[0xbe]),
        ("a name beyond the table", &[0x7f, 0x00, 0x00]),
        (
            "an integer without an end",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        ("a string cut short", &[0x00, 0x05, b'a']),
        ("a block cut short", &[0x00]),
        ("a table larger than allowed", &[0x3f, 0xe2, 0x1f]),
        ("a resize after a field", &late_resize),
        ("Huffman code that ends badly", &[0x00, 0x81, 0x00, 0x00]),
    ] {
        assert_eq!(fields(&mut Decoder::new(), block), Err(Broken), "{what}");
    }
}

#[test]
fn a_list_that_is_too_large_keeps_the_table_right() {
    let mut decoder = Decoder::new();
    let mut block = literal(0x40, "a", &"x".repeat(100));
    block.extend(std::iter::repeat_n(0xbe, 1000));
    block.extend(literal(0x40, "b", "y"));
    let mut taken = 0;
    assert_eq!(
        decoder.decode(&block, |_, _| taken += 1),
        Ok(Decoded::TooLarge)
    );
    assert!(taken * 133 <= MAX_LIST, "{taken}");
    assert_fields(&mut decoder, &[0xbe], &[("b", "y")]);
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new();
    let mut block = vec![0x3f, 0x21];
    block.extend(literal(0x40, "a", "b"));
    block.extend(literal(0x40, "c", &"x".repeat(70)));
    assert_eq!(fields(&mut decoder, &block).unwrap().len(), 2);
    assert_eq!((decoder.size, decoder.table.len()), (0, 0));
}

proptest! {
    #[test]
    fn no_blocks_panic_and_the_table_stays_within_its_size(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if decoder.decode(&block, |_, _| {}).is_err() {
                break;
            }
            let size: usize = decoder.table.iter().map(|entry| entry.text.len() + OVERHEAD).sum();
            prop_assert_eq!(size, decoder.size);
            prop_assert!(size <= decoder.max);
        }
    }

    #[test]
    fn literals_come_back(name in "[a-z-]{1,20}", value in "[ -~]{0,60}", first in proptest::sample::select(vec![0x40u8, 0x00, 0x10])) {
        let block = literal(first, &name, &value);
        prop_assert_eq!(fields(&mut Decoder::new(), &block).unwrap(), [(name, value)]);
    }
}

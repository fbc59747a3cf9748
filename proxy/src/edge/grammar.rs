//! The small grammars of HTTP that both versions share: tokens, field values, targets, authorities.
//!
//! Refuses what RFC 9110 and RFC 9112 forbid, and a few things they leave open but nobody sends.

/// Bytes of a `token` (RFC 9110 section 5.6.2), mapped to lower case; 0 for every other byte.
const TOKEN: [u8; 256] = token_table();

const fn token_table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let other = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        if other || byte.is_ascii_alphanumeric() {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
}

/// The lower-case form of a token byte, 0 if it is none.
pub(super) fn token_byte(byte: u8) -> u8 {
    TOKEN[byte as usize]
}

/// Whether every byte may stand in a field value: visible, space, tab or beyond ASCII.
pub(super) fn is_field_value(value: &[u8]) -> bool {
    // Without an early exit, so that the compiler can take many bytes at a time.
    value.iter().fold(true, |good, &byte| {
        good & ((byte >= 0x20 && byte != 0x7f) | (byte == b'\t'))
    })
}

/// Whether a target is in origin-form, without the bytes that no target may have raw.
pub(super) fn is_origin_form(target: &[u8]) -> bool {
    target.first() == Some(&b'/')
        && target.iter().fold(true, |good, &byte| {
            good & (byte > 0x20) & (byte < 0x7f) & (byte != b'#')
        })
}

/// The authority in a target in absolute-form, which the path follows: servers have to take it
/// (RFC 9112 section 3.2.2). One without a path is refused, since clients have to send `/`.
pub(super) fn absolute_form(target: &[u8]) -> Option<std::ops::Range<usize>> {
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let start = schemes.into_iter().find_map(|scheme| {
        let begin = target.get(..scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(scheme.len())
    })?;
    let length = memchr::memchr(b'/', &target[start..])?;
    Some(start..start + length)
}

/// The length of the host in an authority `host [":" port]`, if it is one. Userinfo is refused, and
/// so are an empty host and an empty port: RFC 9110 section 4.2 calls for the first two.
pub(super) fn host_length(authority: &[u8]) -> Option<usize> {
    let host = match authority.first()? {
        b'[' => {
            let end = memchr::memchr(b']', authority)?;
            let inside = std::str::from_utf8(authority.get(1..end)?).ok()?;
            inside.parse::<std::net::Ipv6Addr>().ok()?;
            end + 1
        }
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    let name_is_fine = authority[0] == b'[' || authority[..host].iter().all(|&b| is_reg_name(b));
    (host > 0 && name_is_fine && is_port(&authority[host..])).then_some(host)
}

fn is_reg_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        )
}

fn is_port(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit) && decimal(digits).is_some_and(|p| p <= 65_535)
        }
        _ => false,
    }
}

/// A number of decimal digits only, as in Content-Length; no sign, no space, no overflow.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u64::from(byte - b'0'))
    })
}

/// A value without the white space around it.
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|b| !blank(b))
        .map_or(start, |last| last + 1);
    &value[start..end]
}

//! HTTP/1.1 answers, found in what has been read so far: by content-length or chunks.

use memchr::memmem;

/// A complete answer at the start of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where the body starts (with its chunk marks, if it is chunked).
    pub(crate) body: usize,
    /// Where the answer ends.
    pub(crate) end: usize,
    /// The server will close.
    pub(crate) close: bool,
}

/// Something that is not an HTTP/1.1 answer with a length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Finds an answer; `None` while it is incomplete. `seen` is 0 at its start and is kept between tries: where a chunk
/// starts before which all is complete, so that a long answer is not read again from its start each time.
pub(crate) fn find(buffer: &[u8], seen: &mut usize) -> Result<Option<Answer>, Malformed> {
    let Some(head_end) = memmem::find(buffer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body) = (&buffer[..head_end + 2], head_end + 4);
    let status = head
        .get(9..12)
        .filter(|_| head.starts_with(b"HTTP/1.1 "))
        .and_then(number)
        .ok_or(Malformed)?;
    let (mut length, mut chunked, mut close) = (None, false, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => {
                if let Some(value) = value(line, b"content-length:") {
                    length = Some(number(value).ok_or(Malformed)?);
                } else if let Some(value) = value(line, b"connection:") {
                    close = value.eq_ignore_ascii_case(b"close");
                }
            }
            Some(b't') => {
                if let Some(value) = value(line, b"transfer-encoding:") {
                    chunked = value.eq_ignore_ascii_case(b"chunked");
                }
            }
            _ => {}
        }
    }
    let end = if chunked {
        chunks_end(buffer, body, seen)?
    } else {
        Some(body + length.ok_or(Malformed)?)
    };
    let end = end.filter(|end| *end <= buffer.len());
    let status = u16::try_from(status).map_err(|_| Malformed)?;
    Ok(end.map(|end| Answer {
        status,
        body,
        end,
        close,
    }))
}

/// Where the chunks that start at `body` end; `None` while they are incomplete.
fn chunks_end(buffer: &[u8], body: usize, seen: &mut usize) -> Result<Option<usize>, Malformed> {
    loop {
        let mut at = body.max(*seen);
        let Some(line) = memmem::find(&buffer[at..], b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&buffer[at..at + line]).map_err(|_| Malformed)?;
        let size = usize::from_str_radix(size, 16).map_err(|_| Malformed)?;
        at += line + 2 + size + 2;
        if at > buffer.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(at));
        }
        *seen = at;
    }
}

fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, value) = line.split_at_checked(name.len())?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_only_when_it_is_complete() {
        let by_length = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 3\r\n\r\nabcHTTP".as_slice();
        let chunked = b"HTTP/1.1 404 No\r\ntransfer-encoding: chunked\r\nConnection: close\r\n\r\n2\r\nab\r\nA\r\n0123456789\r\n0\r\n\r\n".as_slice();
        for (text, status, complete, close) in [
            (by_length, 200, by_length.len() - 4, false),
            (chunked, 404, chunked.len(), true),
        ] {
            let mut seen = 0;
            for read in 0..complete {
                assert_eq!(find(&text[..read], &mut seen), Ok(None), "{read}");
            }
            assert_eq!(find(text, &mut 0), find(text, &mut seen));
            let answer = find(text, &mut seen).unwrap().unwrap();
            assert_eq!(
                (answer.status, answer.end, answer.close),
                (status, complete, close)
            );
        }
    }

    #[test]
    fn what_has_no_length_is_malformed() {
        let find = |text| find(text, &mut 0);
        assert_eq!(find(b"HTTP/1.1 200 OK\r\n\r\nabc"), Err(Malformed));
        assert_eq!(
            find(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
            Err(Malformed)
        );
        assert_eq!(
            find(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
            Err(Malformed)
        );
    }
}

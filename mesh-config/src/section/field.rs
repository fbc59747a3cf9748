//! What policies call parts of a request by: header lines, cookies, query parameters, variables of a path template.

/// The name of a header line, in lower case.
pub(crate) fn header(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(format!("`{text}` cannot be the name of a header"));
    }
    Ok(text.to_ascii_lowercase())
}

/// The name of a cookie, which has upper and lower case.
pub(crate) fn cookie(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(format!("`{text}` cannot be the name of a cookie"));
    }
    Ok(text.to_owned())
}

/// The name of a query parameter.
pub(crate) fn query(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a query parameter has a name".to_owned());
    }
    Ok(text.to_owned())
}

/// A variable of a path template, by its field path: `book.name`. Whether the template has it is found out by
/// those who know the descriptors.
pub(crate) fn variable(text: &str) -> Result<String, String> {
    let identifier = |part: &str| {
        part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && part.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    };
    if !text.split('.').all(identifier) {
        return Err(format!(
            "`{text}` cannot be a variable of a path template: write its field, such as resource_id or book.name"
        ));
    }
    Ok(text.to_owned())
}

/// A path of fields into JSON: `data.timestamp`, `items.*.id`.
pub(crate) fn json_path(text: &str) -> Result<String, String> {
    if text.split('.').any(str::is_empty) {
        return Err(format!(
            "`{text}` is not a path of fields: write data.timestamp, or items.*.id for all items of a list"
        ));
    }
    Ok(text.to_owned())
}

/// Whether a header line belongs to the connection or to the message on it: those are the gateway's to write.
pub fn is_framing(name: &str) -> bool {
    const FRAMING: [&str; 11] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    FRAMING.contains(&name)
}

/// <https://www.rfc-editor.org/rfc/rfc9110#name-tokens>
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

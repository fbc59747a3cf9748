//! JSON in assertions.

use serde_json::Value;

/// Parses text; the panic shows it.
///
/// # Panics
/// When it is not one JSON document.
pub fn parse(text: &[u8]) -> Value {
    serde_json::from_slice(text)
        .unwrap_or_else(|why| panic!("not JSON ({why}): {:?}", String::from_utf8_lossy(text)))
}

/// Takes the value at `pointer` (RFC 6901) out of a document, leaving null: for timestamps and other parts that a test
/// looks at by themselves before it compares the rest.
///
/// # Panics
/// When there is nothing.
pub fn take(document: &mut Value, pointer: &str) -> Value {
    let shown = document.to_string();
    document
        .pointer_mut(pointer)
        .unwrap_or_else(|| panic!("nothing at {pointer} in {shown}"))
        .take()
}

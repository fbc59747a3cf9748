//! The KV store: keys watched by blocking queries, written with check-and-set.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::answer::Answer;
use crate::client::Client;
use crate::error::{Error, Rule};
use crate::request::{Request, Target};
use crate::watch::{Ask, Query};

/// Consul's limit for a value.
pub const MAX_VALUE: usize = 512 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// What is under it.
    pub value: Bytes,
    /// Changes with every write: what a check-and-set checks.
    pub modified: u64,
    /// An opaque number of the writer's.
    pub flags: u64,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever: the last writer wins.
    Anything,
    /// No such key.
    Nothing,
    /// The entry as it was read, by [`Entry::modified`].
    Modified(u64),
}

/// A key to watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyQuery {
    /// The key, without a slash before it.
    pub key: String,
    /// Another datacenter than the agent's.
    pub datacenter: Option<String>,
}

impl Query for KeyQuery {
    type Value = Option<Entry>;

    fn request(&self, ask: &Ask) -> Request {
        let target = Target::new("/v1/kv")
            .rest(&self.key)
            .optional("dc", self.datacenter.as_deref());
        let rule = Rule::new("key", "read", &self.key);
        Request::new(Method::GET, ask.add_to(target), ask.patience(), rule).may_be_missing()
    }

    fn value(&self, answer: &Answer) -> Result<Option<Entry>, Error> {
        if !answer.found {
            return absent(answer);
        }
        let entry = entries(&answer.body)?.pop();
        match entry {
            Some(entry) if entry.key == self.key => Ok(Some(entry)),
            Some(_) => Err(Error::nonsense("the answer is about another key")),
            None => Err(Error::nonsense("an empty list instead of a value")),
        }
    }

    fn max_stale(&self) -> Option<Duration> {
        None
    }

    fn name(&self) -> String {
        format!("key {}", self.key)
    }
}

/// Consul says 404 with an index and without a word; a proxy before it, or another server, says it otherwise.
fn absent(answer: &Answer) -> Result<Option<Entry>, Error> {
    if answer.meta.index.is_some() && answer.body.iter().all(u8::is_ascii_whitespace) {
        Ok(None)
    } else {
        Err(Error::nonsense("a 404 that is not Consul's"))
    }
}

impl Client {
    /// The entry of a key.
    ///
    /// # Errors
    /// If Consul gives no answer that means something.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let query = KeyQuery {
            key: key.to_owned(),
            datacenter: None,
        };
        let answer = self.send(query.request(&Ask::once())).await?;
        query.value(&answer)
    }

    /// All entries whose keys begin so, by key.
    ///
    /// # Errors
    /// If Consul gives no answer that means something.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let target = Target::new("/v1/kv").rest(prefix).flag("recurse");
        let rule = Rule::new("key", "read", prefix);
        let request = Request::new(Method::GET, target, PATIENCE, rule).may_be_missing();
        let answer = self.send(request).await?;
        if !answer.found {
            return absent(&answer).map(|_| Vec::new());
        }
        let mut entries = entries(&answer.body)?;
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(entries)
    }

    /// The keys that begin so, in order, without their values.
    ///
    /// # Errors
    /// If Consul gives no answer that means something.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let target = Target::new("/v1/kv").rest(prefix).flag("keys");
        let rule = Rule::new("key", "list", prefix);
        let request = Request::new(Method::GET, target, PATIENCE, rule).may_be_missing();
        let answer = self.send(request).await?;
        if !answer.found {
            return absent(&answer).map(|_| Vec::new());
        }
        let mut keys: Vec<String> = serde_json::from_slice(&answer.body)
            .map_err(|error| Error::nonsense(format!("not a list of keys: {error}")))?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Writes a value if what is there is what is expected. False: it was not, and nothing is written.
    ///
    /// # Errors
    /// If Consul gives no answer that means something: then it is not known whether it is written.
    pub async fn put(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        expect: Expect,
    ) -> Result<bool, Error> {
        let value = value.into();
        if value.len() > MAX_VALUE {
            return Err(Error::ValueTooLong {
                size: value.len(),
                limit: MAX_VALUE,
            });
        }
        let target = expect.add_to(Target::new("/v1/kv").rest(key));
        let rule = Rule::new("key", "write", key);
        let request = Request::new(Method::PUT, target, PATIENCE, rule).body(value);
        boolean(&self.send(request).await?.body)
    }

    /// Deletes a key if what is there is what is expected. False: it was not, and nothing is deleted.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn delete(&self, key: &str, expect: Expect) -> Result<bool, Error> {
        let target = expect.add_to(Target::new("/v1/kv").rest(key));
        let rule = Rule::new("key", "write", key);
        let request = Request::new(Method::DELETE, target, PATIENCE, rule);
        boolean(&self.send(request).await?.body)
    }
}

impl Expect {
    fn add_to(self, target: Target) -> Target {
        match self {
            Self::Anything => target,
            Self::Nothing => target.pair("cas", "0"),
            Self::Modified(index) => target.pair("cas", &index.to_string()),
        }
    }
}

fn boolean(body: &[u8]) -> Result<bool, Error> {
    match body.trim_ascii() {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(Error::nonsense("neither true nor false")),
    }
}

fn entries(body: &[u8]) -> Result<Vec<Entry>, Error> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Error::nonsense(format!("the answer is not JSON: {error}")))?;
    let entries = value.as_array().map(Vec::as_slice);
    let entries = entries.and_then(|entries| entries.iter().map(entry).collect());
    entries.ok_or_else(|| Error::nonsense("the answer is not a list of keys with values"))
}

fn entry(value: &Value) -> Option<Entry> {
    let number = |key: &str| value.get(key).and_then(Value::as_u64);
    // A key without a value has `null`.
    let bytes = match value.get("Value")? {
        Value::Null => Vec::new(),
        Value::String(text) => STANDARD.decode(text).ok()?,
        _ => return None,
    };
    Some(Entry {
        key: value.get("Key")?.as_str()?.to_owned(),
        value: bytes.into(),
        modified: number("ModifyIndex")?,
        flags: number("Flags").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_are_what_consul_sends() {
        let body = br#"[{"LockIndex":0,"Key":"a/b","Flags":3,"Value":"aGk=","CreateIndex":10,"ModifyIndex":12},
            {"Key":"a/c","Flags":0,"Value":null,"ModifyIndex":13}]"#;
        let found = entries(body).unwrap();
        assert_eq!(found[0].value.as_ref(), b"hi");
        assert_eq!((found[0].modified, found[0].flags), (12, 3));
        assert!(found[1].value.is_empty());
        for wrong in [
            "",
            "{}",
            "[{}]",
            r#"[{"Key":"a","Value":"%","ModifyIndex":1}]"#,
            r#"[{"Key":"a","Value":1,"ModifyIndex":1}]"#,
            r#"[{"Key":"a","Value":"aGk="}]"#,
        ] {
            assert!(entries(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = entries(&bytes);
            let _ = boolean(&bytes);
        }

        #[test]
        fn one_wrong_byte_does_no_harm(at: prop::sample::Index, byte: u8) {
            let mut text = br#"[{"Key":"a/b","Flags":3,"Value":"aGk=","ModifyIndex":12}]"#.to_vec();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = entries(&text);
        }
    }
}

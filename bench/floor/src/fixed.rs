//! The calls that are always the same, in both forms: what the gRPC backend is asked and answers, and the JSON of it.

use bytes::{BufMut, Bytes, BytesMut};

/// Of the blob, whose JSON is 64 KiB.
const BLOB_ITEMS: usize = 840;
/// Of the stream.
const STREAM_ITEMS: usize = 1000;

/// A call that is always the same.
#[derive(Debug)]
pub struct Fixed {
    /// The gRPC method, as a path.
    pub method: &'static str,
    /// The framed message to send.
    pub request: Bytes,
    /// The framed messages of the answer; none for calls that only the counter service answers.
    pub answers: Vec<Bytes>,
    /// The answer as JSON.
    pub json: Bytes,
}

/// All of them.
#[derive(Debug)]
pub struct Calls {
    get: Fixed,
    increment: Fixed,
    batch: Fixed,
    blob: Fixed,
    stream: Fixed,
}

impl Calls {
    /// Calls about the counter `id`, a batch of `items` of it, and those of `bench.Bench`.
    ///
    /// # Errors
    ///
    /// A message longer than what a gRPC frame can hold.
    pub fn new(id: &str, items: usize) -> anyhow::Result<Self> {
        let counter = message(&[(1, id.as_bytes()), (2, b"like")]);
        let mut increment = BytesMut::from(counter.as_ref());
        increment.extend_from_slice(&[3 << 3, 1]);
        let batch: Vec<_> = (0..items).map(|_| (1, counter.as_ref())).collect();
        let result = format!(
            r#"{{"resource_id":"{id}","counter_type":"like","current_value":1000000,"updated_at":1700000000}}"#
        );
        let results = vec![result.as_str(); items].join(",");
        let incremented = format!(
            r#"{{"status":"success","data":{{"resource_id":"{id}","counter_type":"like","current_value":1000000,"success":true,"timestamp":1700000000}}}}"#
        );
        let counters = |method, request: &[u8], json: String| {
            anyhow::Ok(Fixed {
                method,
                request: framed(request)?,
                answers: Vec::new(),
                json: json.into(),
            })
        };
        Ok(Self {
            get: counters(
                "/counter.CounterService/GetCounter",
                &counter,
                format!(r#"{{"status":"success","data":{result}}}"#),
            )?,
            increment: counters(
                "/counter.CounterService/IncrementCounter",
                &increment,
                incremented,
            )?,
            batch: counters(
                "/counter.CounterService/BatchGetCounters",
                &message(&batch),
                format!(
                    r#"{{"status":"success","data":{{"results":[{results}],"total":{items}}}}}"#
                ),
            )?,
            blob: blob()?,
            stream: stream()?,
        })
    }

    /// The one that an HTTP request asks for.
    #[must_use]
    pub fn of_path(&self, path: &str) -> &Fixed {
        match path {
            "/api/v1/counter/increment" => &self.increment,
            "/api/v1/counter/batch" => &self.batch,
            "/v1/blob" => &self.blob,
            "/v1/items" => &self.stream,
            _ => &self.get,
        }
    }

    /// The one that has this gRPC method, of those that have an answer.
    #[must_use]
    pub fn of_method(&self, path: &str) -> Option<&Fixed> {
        [&self.blob, &self.stream]
            .into_iter()
            .find(|call| call.method == path)
    }
}

fn blob() -> anyhow::Result<Fixed> {
    let items = (0..BLOB_ITEMS).map(item).collect::<Vec<_>>();
    let mut wire = BytesMut::new();
    for (item, _) in &items {
        wire.extend_from_slice(&message(&[(1, item)]));
    }
    let json: Vec<_> = items.iter().map(|(_, json)| json.as_str()).collect();
    Ok(Fixed {
        method: "/bench.Bench/GetBlob",
        request: framed(&[])?,
        answers: vec![framed(&wire)?],
        json: format!(r#"{{"items":[{}]}}"#, json.join(",")).into(),
    })
}

fn stream() -> anyhow::Result<Fixed> {
    let items = (0..STREAM_ITEMS).map(item).collect::<Vec<_>>();
    let json: Vec<_> = items.iter().map(|(_, json)| json.as_str()).collect();
    Ok(Fixed {
        method: "/bench.Bench/ListItems",
        request: framed(&[])?,
        answers: items
            .iter()
            .map(|(item, _)| framed(item))
            .collect::<anyhow::Result<_>>()?,
        json: (json.join("\n") + "\n").into(),
    })
}

/// A `bench.Item`, on the wire and as JSON.
fn item(number: usize) -> (Bytes, String) {
    const VALUE: u64 = 10_000_000_000;
    let mut wire = BytesMut::new();
    let id = format!("item-{number}");
    wire.extend_from_slice(&message(&[(1, id.as_bytes()), (2, b"like")]));
    for (field, value) in [(3_u8, VALUE), (4, 1_700_000_000)] {
        wire.put_u8(field << 3);
        varint(&mut wire, value);
    }
    let json =
        format!(r#"{{"id":"{id}","type":"like","value":"{VALUE}","updatedAt":"1700000000"}}"#);
    (wire.freeze(), json)
}

/// Bytes fields, in the protobuf wire format.
fn message(fields: &[(u8, &[u8])]) -> Bytes {
    let mut wire = BytesMut::new();
    for (number, value) in fields {
        wire.put_u8(number << 3 | 2);
        varint(&mut wire, value.len() as u64);
        wire.extend_from_slice(value);
    }
    wire.freeze()
}

/// <https://protobuf.dev/programming-guides/encoding/#varints>
fn varint(wire: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        wire.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    wire.put_u8(value.to_le_bytes()[0]);
}

fn framed(message: &[u8]) -> anyhow::Result<Bytes> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.extend_from_slice(message);
    Ok(frame.freeze())
}

//! Nanoseconds of the codec on one thread: an increment and a batch of 50, request to wire and response to JSON.
//!
//! `cargo run --release -p transcode --example codec_bench` prints the median, and the best, of several rounds.

#![allow(clippy::disallowed_types, reason = "real time is what is measured")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use transcode::{Codec, Defaults, Int64, JsonOptions, Names, Schema, ShapeNode};

const ROUNDS: usize = 501;

#[derive(Clone, PartialEq, prost::Message)]
struct IncrementResponse {
    #[prost(bool, tag = "1")]
    success: bool,
    #[prost(int64, tag = "2")]
    current_value: i64,
    #[prost(string, tag = "3")]
    message: String,
    #[prost(string, tag = "4")]
    resource_id: String,
    #[prost(string, tag = "5")]
    counter_type: String,
    #[prost(int64, tag = "6")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetCounterResponse {
    #[prost(string, tag = "1")]
    resource_id: String,
    #[prost(string, tag = "2")]
    counter_type: String,
    #[prost(int64, tag = "3")]
    current_value: i64,
    #[prost(int64, tag = "4")]
    updated_at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BatchGetResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<GetCounterResponse>,
}

/// Prints what one call takes, in nanoseconds.
fn measure(name: &str, calls: u32, mut call: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!(
        "{name:<28} median {:>8.1} ns   best {:>8.1} ns",
        rounds[ROUNDS / 2],
        rounds[0]
    );
    rounds[ROUNDS / 2]
}

struct Bench {
    codec: Codec,
    buffer: Vec<u8>,
}

impl Bench {
    fn encode(&mut self, name: &str, message: &str, json: &str, calls: u32) -> f64 {
        let Some(id) = self.codec.schema().message(message) else {
            return f64::NAN;
        };
        measure(name, calls, || {
            self.buffer.clear();
            self.codec
                .encode(id, black_box(json.as_bytes()), &mut self.buffer)
                .ok();
            black_box(&self.buffer);
        })
    }

    fn decode(&mut self, name: &str, message: &str, wire: &[u8], calls: u32) -> f64 {
        let Some(id) = self.codec.schema().message(message) else {
            return f64::NAN;
        };
        measure(name, calls, || {
            self.buffer.clear();
            self.codec
                .decode(id, black_box(wire), &mut self.buffer)
                .ok();
            black_box(&self.buffer);
        })
    }

    fn shape(
        &mut self,
        name: &str,
        message: &str,
        node: &ShapeNode,
        wire: &[u8],
        calls: u32,
    ) -> f64 {
        let shape = self
            .codec
            .schema()
            .message(message)
            .and_then(|id| self.codec.shape(id, node).ok());
        let Some(shape) = shape else { return f64::NAN };
        measure(name, calls, || {
            self.buffer.clear();
            self.codec
                .decode_shape(&shape, black_box(wire), &mut self.buffer)
                .ok();
            black_box(&self.buffer);
        })
    }
}

/// The envelope of the increment: chosen fields in an order of its own.
fn envelope() -> ShapeNode {
    let names = [
        "resource_id",
        "counter_type",
        "current_value",
        "success",
        "timestamp",
    ];
    let data = names.map(|name| (name.to_owned(), ShapeNode::Field(name.to_owned())));
    ShapeNode::Object(vec![
        ("status".into(), ShapeNode::Json("\"success\"".into())),
        ("data".into(), ShapeNode::Object(data.into())),
    ])
}

fn compile() -> Result<Codec, Box<dyn std::error::Error>> {
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protos");
    let mut compiler = protox::Compiler::new([protos])?;
    compiler.include_imports(true).open_file("counter.proto")?;
    let schema = Schema::from_descriptor_sets([compiler.encode_file_descriptor_set().as_slice()])?;
    let options = JsonOptions {
        int64: Int64::Number,
        names: Names::Original,
        defaults: Defaults::Emit,
        ..JsonOptions::default()
    };
    Ok(Codec::new(Arc::new(schema), options))
}

fn increment(bench: &mut Bench) {
    let json = r#"{"resource_id": "article_001", "counter_type": "like", "delta": 1}"#;
    let response = IncrementResponse {
        success: true,
        current_value: 42,
        resource_id: "article_001".into(),
        counter_type: "like".into(),
        timestamp: 1_700_000_000,
        ..Default::default()
    };
    let wire = response.encode_to_vec();
    let request = bench.encode("increment request", "counter.IncrementRequest", json, 200);
    let answer = bench.decode(
        "increment response",
        "counter.IncrementResponse",
        &wire,
        200,
    );
    println!(
        "{:<28} median {:>8.1} ns   (goal 130)",
        "increment together",
        request + answer
    );
    bench.shape(
        "increment in an envelope",
        "counter.IncrementResponse",
        &envelope(),
        &wire,
        200,
    );
}

fn batch(bench: &mut Bench) {
    let item = |n| format!(r#"{{"resource_id": "article_{n:03}", "counter_type": "like"}}"#);
    let json = format!(
        r#"{{"items": [{}]}}"#,
        (0..50).map(item).collect::<Vec<_>>().join(", ")
    );
    let result = |n: i64| GetCounterResponse {
        resource_id: format!("article_{n:03}"),
        counter_type: "like".into(),
        current_value: 12_345 + n,
        updated_at: 1_700_000_000,
    };
    let results = BatchGetResponse {
        results: (0..50).map(result).collect(),
    };
    let request = bench.encode("batch request", "counter.BatchGetRequest", &json, 10);
    let answer = bench.decode(
        "batch response",
        "counter.BatchGetResponse",
        &results.encode_to_vec(),
        10,
    );
    println!(
        "{:<28} median {:>8.1} ns   (goal 5500)",
        "batch together",
        request + answer
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut bench = Bench {
        codec: compile()?,
        buffer: Vec::with_capacity(16 * 1024),
    };
    increment(&mut bench);
    batch(&mut bench);
    Ok(())
}

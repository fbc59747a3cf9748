//! The codec as a testee of protobuf's conformance suite; `run.sh` beside it builds it and runs the suite.
//!
//! `conformance-testee` reads requests from standard input and writes answers to standard output, each after its
//! length in four bytes. It knows the suite's test messages of proto2, proto3 and editions. A transcoder holds no
//! message, so protobuf to protobuf is only checked for what must be refused, and otherwise skipped, as the text format is.
//!
//! Protocol: <https://github.com/protocolbuffers/protobuf/blob/main/conformance/conformance.proto>

use std::io::{self, Read, Write};
use std::sync::Arc;

use prost::Message as _;
use transcode::{Codec, JsonOptions, MessageId, Schema, UnknownFields, WireError};

/// `google/protobuf/test_messages_*.proto` of the suite with what they import; `messages.sh` makes it again.
const MESSAGES: &[u8] = include_bytes!("../messages.binpb");

const OUTPUT_PROTOBUF: i32 = 1;
const OUTPUT_JSON: i32 = 2;
const IGNORE_UNKNOWN: i32 = 3;

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(oneof = "Payload", tags = "1, 2, 7, 8")]
    payload: Option<Payload>,
    #[prost(int32, tag = "3")]
    output: i32,
    #[prost(string, tag = "4")]
    message_type: String,
    #[prost(int32, tag = "5")]
    category: i32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Payload {
    #[prost(bytes, tag = "1")]
    Protobuf(Vec<u8>),
    #[prost(string, tag = "2")]
    Json(String),
    #[prost(string, tag = "7")]
    Jspb(String),
    #[prost(string, tag = "8")]
    Text(String),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6")]
    answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answer {
    #[prost(string, tag = "1")]
    ParseError(String),
    #[prost(string, tag = "2")]
    RuntimeError(String),
    #[prost(bytes, tag = "3")]
    Protobuf(Vec<u8>),
    #[prost(string, tag = "4")]
    Json(String),
    #[prost(string, tag = "5")]
    Skipped(String),
    #[prost(string, tag = "6")]
    SerializeError(String),
}

struct Testee {
    schema: Arc<Schema>,
    strict: Codec,
    lenient: Codec,
}

impl Testee {
    fn new() -> Result<Testee, Box<dyn std::error::Error>> {
        let schema = Arc::new(Schema::from_descriptor_sets([MESSAGES])?);
        let lenient = JsonOptions {
            unknown_fields: UnknownFields::Ignore,
            ..JsonOptions::default()
        };
        Ok(Testee {
            strict: Codec::new(schema.clone(), JsonOptions::default()),
            lenient: Codec::new(schema.clone(), lenient),
            schema,
        })
    }

    fn answer(&self, request: Request) -> Answer {
        // The first request asks for the list of expected failures, which is empty.
        if request.message_type == "conformance.FailureSet" {
            return Answer::Protobuf(Vec::new());
        }
        let Some(message) = self.schema.message(&request.message_type) else {
            return Answer::RuntimeError(format!(
                "{} is not in the descriptors",
                request.message_type
            ));
        };
        let lenient = request.category == IGNORE_UNKNOWN;
        let codec = if lenient { &self.lenient } else { &self.strict };
        match request.payload {
            Some(Payload::Json(json)) => from_json(codec, message, &json, request.output),
            Some(Payload::Protobuf(wire)) => from_protobuf(codec, message, &wire, request.output),
            _ => Answer::Skipped("only protobuf and JSON are spoken".into()),
        }
    }
}

fn from_json(codec: &Codec, message: MessageId, json: &str, output: i32) -> Answer {
    let mut wire = Vec::new();
    match codec.encode(message, json.as_bytes(), &mut wire) {
        Err(error) => Answer::ParseError(error.to_string()),
        Ok(()) if output == OUTPUT_PROTOBUF => Answer::Protobuf(wire),
        Ok(()) => from_protobuf(codec, message, &wire, output),
    }
}

fn from_protobuf(codec: &Codec, message: MessageId, wire: &[u8], output: i32) -> Answer {
    let mut json = Vec::new();
    let decoded = codec.decode(message, wire, &mut json);
    match (decoded, output) {
        (Err(error), OUTPUT_JSON) if has_no_json(error) => {
            Answer::SerializeError(error.to_string())
        }
        (Err(error), _) if !has_no_json(error) => Answer::ParseError(error.to_string()),
        (Ok(()), OUTPUT_JSON) => Answer::Json(String::from_utf8_lossy(&json).into_owned()),
        _ => Answer::Skipped("a transcoder writes no message that it did not read as JSON".into()),
    }
}

/// The bytes are a message, but JSON has no form for it.
fn has_no_json(error: WireError) -> bool {
    matches!(
        error,
        WireError::Time | WireError::FieldMask | WireError::Value | WireError::UnknownAny
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let testee = Testee::new()?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut length = [0; 4];
    while input.read_exact(&mut length).is_ok() {
        let mut request = vec![0; u32::from_le_bytes(length) as usize];
        input.read_exact(&mut request)?;
        let answer = testee.answer(Request::decode(request.as_slice())?);
        let response = Response {
            answer: Some(answer),
        }
        .encode_to_vec();
        output.write_all(&u32::try_from(response.len())?.to_le_bytes())?;
        output.write_all(&response)?;
        output.flush()?;
    }
    Ok(())
}

//! What the fuzz targets share: the test messages of `transcode`, the codec in every style, and the oracle.

pub mod edge;

use std::sync::{Arc, LazyLock};

use prost_reflect::{DescriptorPool, DynamicMessage};
use transcode::{
    Codec, Defaults, Dialect, Enums, Int64, JsonOptions, MessageId, Names, Schema, UnknownFields,
};

/// The messages that the first byte of an input chooses from.
const MESSAGES: [&str; 5] = [
    "everything.Everything",
    "everything.Scalars",
    "everything.Shuffled",
    "legacy.Legacy",
    "counter.IncrementRequest",
];

static DESCRIPTORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let here = env!("CARGO_MANIFEST_DIR");
    let folders = ["protos", "../transcode/tests/protos", "../proto/proto"];
    let mut compiler = protox::Compiler::new(folders.map(|folder| format!("{here}/{folder}")))
        .expect("the folders are there");
    compiler.include_imports(true);
    compiler
        .open_files([
            "everything.proto",
            "legacy.proto",
            "counter.proto",
            "asked.proto",
        ])
        .expect("the protos compile");
    compiler.encode_file_descriptor_set()
});

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS.as_slice()).expect("descriptors"));

/// The schema of the test messages.
pub static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    Arc::new(Schema::from_descriptor_sets([DESCRIPTORS.as_slice()]).expect("a schema"))
});

/// A codec for each combination of options, by the bits of a number.
static CODECS: LazyLock<Vec<Codec>> = LazyLock::new(|| (0..64).map(codec).collect());

fn codec(bits: u8) -> Codec {
    let bit = |n: u8| bits >> n & 1 == 1;
    let options = JsonOptions {
        int64: if bit(0) { Int64::Number } else { Int64::String },
        enums: if bit(1) { Enums::Number } else { Enums::Name },
        names: if bit(2) {
            Names::Original
        } else {
            Names::Camel
        },
        defaults: if bit(3) {
            Defaults::Emit
        } else {
            Defaults::Omit
        },
        unknown_fields: if bit(4) {
            UnknownFields::Ignore
        } else {
            UnknownFields::Reject
        },
        dialect: if bit(5) {
            Dialect::Plain
        } else {
            Dialect::Proto3
        },
    };
    Codec::new(SCHEMA.clone(), options)
}

/// A message in a style, as two bytes say, and what is left of the input.
pub struct Case<'d> {
    /// The style.
    pub codec: &'static Codec,
    /// The message.
    pub message: MessageId,
    /// Its full name.
    pub name: &'static str,
    /// The rest of the input.
    pub rest: &'d [u8],
}

impl<'d> Case<'d> {
    /// None if there are no two bytes.
    pub fn of(data: &'d [u8]) -> Option<Self> {
        let [message, style, rest @ ..] = data else {
            return None;
        };
        let name = MESSAGES[usize::from(*message) % MESSAGES.len()];
        Some(Self {
            codec: &CODECS[usize::from(*style) % CODECS.len()],
            message: SCHEMA.message(name).expect("the message is there"),
            name,
            rest,
        })
    }

    /// JSON of a message, if it has a JSON form; it must be JSON.
    pub fn json(&self, wire: &[u8]) -> Option<Vec<u8>> {
        let mut json = Vec::new();
        self.codec.decode(self.message, wire, &mut json).ok()?;
        if let Err(error) = serde_json::from_slice::<serde_json::Value>(&json) {
            panic!("{error} in {}", String::from_utf8_lossy(&json));
        }
        Some(json)
    }

    /// The message of JSON, if it is taken; it must be protobuf.
    pub fn wire(&self, json: &[u8]) -> Option<Vec<u8>> {
        let mut wire = Vec::new();
        self.codec.encode(self.message, json, &mut wire).ok()?;
        is_protobuf(self.name, &wire);
        Some(wire)
    }

    /// A message that JSON was made of comes back from that JSON, as far as JSON can tell. The plain dialect reads as a typed
    /// reader does, and not all that the mapping of proto3 can be told to write.
    pub fn comes_back(&self, wire: &[u8]) {
        let Some(json) = self.json(wire) else { return };
        if self.codec.options().dialect == Dialect::Plain {
            return;
        }
        // An unknown value of NullValue is null, which then is no value: the second time nothing is lost.
        let once = self.again(&json);
        assert_eq!(
            String::from_utf8_lossy(&self.again(&once)),
            String::from_utf8_lossy(&once)
        );
    }

    /// JSON that this codec has written, read and written again.
    fn again(&self, json: &[u8]) -> Vec<u8> {
        let shown = String::from_utf8_lossy(json);
        let Some(wire) = self.wire(json) else {
            panic!("its own JSON is refused: {shown}");
        };
        let Some(json) = self.json(&wire) else {
            panic!("what it has read cannot be written: {shown}");
        };
        json
    }
}

/// What was written must be protobuf to the oracle.
pub fn is_protobuf(name: &str, wire: &[u8]) {
    let message = POOL
        .get_message_by_name(name)
        .expect("the message is there");
    if let Err(error) = DynamicMessage::decode(message, wire) {
        panic!("{error} in {name} {wire:02x?}");
    }
}

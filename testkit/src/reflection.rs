//! gRPC server reflection as a backend answers it, from a descriptor set whose files stay as they are; well, or badly.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::DescriptorPool;

use crate::h2c::frame;

/// How a backend answers.
#[derive(Debug, Clone, Default)]
pub struct Reflection {
    /// Which versions it knows: `v1`, `v1alpha`.
    pub versions: Vec<&'static str>,
    /// A serialized `FileDescriptorSet`.
    pub set: Vec<u8>,
    /// Only the file that is asked for, not what it imports.
    pub one_by_one: bool,
    /// Instead of files.
    pub nonsense: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, optional, tag = "3")]
    file: Option<String>,
    #[prost(string, optional, tag = "4")]
    symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    list: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
    #[prost(message, optional, tag = "7")]
    error: Option<Error>,
}

#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Name>,
}

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Error {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The answers to all questions of a call; `None`: it is no call of reflection that this backend knows.
pub(crate) fn answers(reflection: &Reflection, path: &str, body: &[u8]) -> Option<Bytes> {
    let knows = reflection.versions.iter().any(|version| {
        path == format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
    });
    if !knows {
        return None;
    }
    let mut all = Vec::new();
    let mut rest = body;
    while rest.len() >= 5 {
        let length = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize;
        let question = Question::decode(&rest[5..5 + length]).expect("a question of reflection");
        rest = &rest[5 + length..];
        all.extend_from_slice(&frame(&answer(reflection, &question).encode_to_vec()));
    }
    Some(Bytes::from(all))
}

fn answer(reflection: &Reflection, question: &Question) -> Answer {
    let pool = DescriptorPool::decode(reflection.set.as_slice()).expect("a descriptor set");
    if question.list.is_some() {
        let mut services: Vec<Name> = pool
            .services()
            .map(|service| Name {
                name: service.full_name().to_owned(),
            })
            .collect();
        services.push(Name {
            name: "grpc.reflection.v1.ServerReflection".to_owned(),
        });
        return Answer {
            services: Some(Services { services }),
            ..Answer::default()
        };
    }
    if let Some(nonsense) = &reflection.nonsense {
        return Answer {
            files: Some(Files {
                files: vec![nonsense.clone()],
            }),
            ..Answer::default()
        };
    }
    let file = match (&question.file, &question.symbol) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(symbol)) => pool
            .get_service_by_name(symbol)
            .map(|service| service.parent_file().name().to_owned()),
        (None, None) => None,
    };
    let files = files(&reflection.set);
    let found = file.filter(|name| files.iter().any(|(known, _)| known == name));
    match found {
        Some(name) => {
            let wanted = |known: &str| !reflection.one_by_one || known == name;
            let files = files.into_iter().filter(|(known, _)| wanted(known));
            Answer {
                files: Some(Files {
                    files: files.map(|(_, bytes)| bytes).collect(),
                }),
                ..Answer::default()
            }
        }
        None => Answer {
            error: Some(Error {
                code: 5,
                message: "no such file or symbol".to_owned(),
            }),
            ..Answer::default()
        },
    }
}

/// The files of a set with their names, as bytes: a decoder that does not know the annotations would lose them.
fn files(mut set: &[u8]) -> Vec<(String, Vec<u8>)> {
    #[derive(Clone, PartialEq, Message)]
    struct File {
        #[prost(string, tag = "1")]
        name: String,
    }
    let mut files = Vec::new();
    while !set.is_empty() {
        let (number, wire_type) = decode_key(&mut set).expect("a set");
        assert_eq!(
            (number, wire_type),
            (1, WireType::LengthDelimited),
            "a set has files alone"
        );
        let length = decode_varint(&mut set).expect("a length") as usize;
        let (bytes, rest) = set.split_at(length);
        set = rest;
        files.push((File::decode(bytes).expect("a file").name, bytes.to_vec()));
    }
    files
}

//! The messages of `grpc/reflection/v1/reflection.proto`; those of `v1alpha` are the same on the wire.

/// `ServerReflectionRequest`, as far as it is asked here.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Question {
    #[prost(string, optional, tag = "3")]
    file_by_filename: Option<String>,
    #[prost(string, optional, tag = "4")]
    file_containing_symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    list_services: Option<String>,
}

/// `ServerReflectionResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Answer {
    #[prost(message, optional, tag = "4")]
    file_descriptor_response: Option<Files>,
    #[prost(message, optional, tag = "6")]
    list_services_response: Option<Services>,
    #[prost(message, optional, tag = "7")]
    error_response: Option<Refusal>,
}

/// `FileDescriptorResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file_descriptor_proto: Vec<Vec<u8>>,
}

/// `ListServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    service: Vec<Service>,
}

/// `ServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
}

/// `ErrorResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Refusal {
    #[prost(int32, tag = "1")]
    error_code: i32,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl Question {
    pub(super) fn services() -> Self {
        Self {
            // The protocol wants a text that says nothing.
            list_services: Some(String::new()),
            ..Self::default()
        }
    }

    pub(super) fn of_symbol(name: &str) -> Self {
        Self {
            file_containing_symbol: Some(name.to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn of_file(name: &str) -> Self {
        Self {
            file_by_filename: Some(name.to_owned()),
            ..Self::default()
        }
    }
}

impl Answer {
    /// The services that it lists, if it is a list.
    pub(super) fn services(self) -> Option<Vec<String>> {
        let services = self.list_services_response?.service;
        Some(services.into_iter().map(|service| service.name).collect())
    }

    /// The files that it brings, or what it says instead.
    pub(super) fn files(self) -> Result<Vec<Vec<u8>>, String> {
        match (self.file_descriptor_response, self.error_response) {
            (Some(files), _) => Ok(files.file_descriptor_proto),
            (None, Some(refusal)) => Err(refusal.error_message),
            (None, None) => Err("an answer of another kind".to_owned()),
        }
    }
}

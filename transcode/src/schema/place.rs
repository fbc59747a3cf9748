//! Where a definition stands: its scope, the edition features in force there, its comment.
//!
//! Features are inherited from the file down (file, message, oneof, field).
//! Spec: <https://protobuf.dev/editions/features/>

use std::collections::HashMap;

use crate::descriptor::{FeatureSet, FileDescriptorProto};

/// Features with every one settled.
#[derive(Clone, Copy)]
pub(super) struct Features {
    pub(super) implicit_presence: bool,
    pub(super) required: bool,
    pub(super) closed_enums: bool,
    pub(super) packed: bool,
    pub(super) delimited: bool,
}

impl Features {
    /// The defaults of a syntax or edition; editions 2023 and 2024 agree on the features that are known here.
    pub(super) fn of_syntax(syntax: &str) -> Features {
        let base = Features {
            implicit_presence: false,
            required: false,
            closed_enums: false,
            packed: true,
            delimited: false,
        };
        match syntax {
            "proto3" => Features {
                implicit_presence: true,
                ..base
            },
            "editions" => base,
            _ => Features {
                closed_enums: true,
                packed: false,
                ..base
            },
        }
    }

    pub(super) fn with(mut self, set: Option<&FeatureSet>) -> Features {
        let Some(set) = set else { return self };
        if set.field_presence != 0 {
            self.implicit_presence = set.field_presence == 2;
            self.required = set.field_presence == 3;
        }
        if set.enum_type != 0 {
            self.closed_enums = set.enum_type == 2;
        }
        if set.repeated_field_encoding != 0 {
            self.packed = set.repeated_field_encoding == 1;
        }
        if set.message_encoding != 0 {
            self.delimited = set.message_encoding == 2;
        }
        self
    }
}

/// Where a definition stands: its scope's name, its features, and how to find its comment.
pub(super) struct Place<'a> {
    pub(super) scope: String,
    pub(super) features: Features,
    pub(super) path: Vec<i32>,
    pub(super) comments: &'a HashMap<&'a [i32], String>,
}

impl Place<'_> {
    pub(super) fn full_name(&self, name: &str) -> String {
        if self.scope.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.scope)
        }
    }

    pub(super) fn inside(
        &self,
        name: &str,
        set: Option<&FeatureSet>,
        part: i32,
        index: usize,
    ) -> Self {
        Place {
            scope: self.full_name(name),
            features: self.features.with(set),
            path: self.child(part, index),
            comments: self.comments,
        }
    }

    fn child(&self, part: i32, index: usize) -> Vec<i32> {
        let mut path = self.path.clone();
        path.extend([part, i32::try_from(index).unwrap_or(i32::MAX)]);
        path
    }

    pub(super) fn comment(&self) -> String {
        self.comments
            .get(self.path.as_slice())
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn comment_of(&self, part: i32, index: usize) -> String {
        self.comments
            .get(self.child(part, index).as_slice())
            .cloned()
            .unwrap_or_default()
    }
}

pub(super) fn comments(file: &FileDescriptorProto) -> HashMap<&[i32], String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    locations
        .filter_map(|location| {
            let leading = location.leading_comments.trim();
            let text = if leading.is_empty() {
                location.trailing_comments.trim()
            } else {
                leading
            };
            (!text.is_empty()).then(|| (location.path.as_slice(), text.to_owned()))
        })
        .collect()
}

//! What a profile asks of a request's values beyond their types, before the call is made.
//!
//! Checks look at the finished message, so it does not matter whether a value came from the
//! path, the query or the body. A field that is not in the message is not checked; the zero
//! value of a field without presence is there only if the path or the query gave it, because
//! JSON bodies leave it out. Only fields of the request message itself can be checked.

use std::ops::RangeInclusive;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::request::RequestError;
use crate::schema::{Cardinality, Field, Kind};

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// A whole number in this range.
    Range(RangeInclusive<i64>),
    /// One of these texts.
    OneOf(Vec<String>),
}

/// A demand on one field.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    name: String,
    number: u32,
    kind: Kind,
    demand: Demand,
}

/// The demands on one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks(Vec<Check>);

impl Demand {
    fn holds_number(&self, value: i64) -> bool {
        match self {
            Demand::Range(range) => range.contains(&value),
            Demand::OneOf(_) => true,
        }
    }

    fn why(&self) -> String {
        match self {
            Demand::Range(range) => format!("must be {} to {}", range.start(), range.end()),
            Demand::OneOf(words) => format!("must be one of {}", words.join(", ")),
        }
    }
}

impl Checks {
    /// Adds a demand on a field, or says why the field cannot have it.
    pub(crate) fn add(&mut self, field: &Field, demand: &Demand) -> Result<(), &'static str> {
        if field.cardinality != Cardinality::Single {
            return Err("is repeated, and only single fields can be checked");
        }
        let whole_number = matches!(
            field.kind,
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32 | Kind::Sint64
        );
        match demand {
            Demand::Range(_) if !whole_number => {
                return Err("is not a varint integer, so it cannot have a range");
            }
            Demand::OneOf(_) if field.kind != Kind::String => {
                return Err("is not a string, so it cannot be one of some words");
            }
            Demand::Range(_) | Demand::OneOf(_) => {}
        }
        self.0.push(Check {
            name: field.name.clone(),
            number: field.number,
            kind: field.kind,
            demand: demand.clone(),
        });
        Ok(())
    }

    /// Whether nothing is demanded.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is demanded of a field to its description in an OpenAPI document.
    pub(crate) fn describe(&self, field: &Field, of: &mut serde_json::Value) {
        for check in self
            .0
            .iter()
            .filter(|check| check.number == field.number && check.name == field.name)
        {
            match &check.demand {
                Demand::Range(range) => {
                    of["minimum"] = (*range.start()).into();
                    of["maximum"] = (*range.end()).into();
                }
                Demand::OneOf(words) => of["enum"] = words.clone().into(),
            }
        }
    }

    /// Checks a message. Bytes that are no message are let through: they were made here.
    pub(crate) fn verify(&self, wire: &[u8]) -> Result<(), RequestError> {
        if self.is_empty() {
            return Ok(());
        }
        match self.broken(wire) {
            Some(check) => Err(RequestError::Check {
                field: check.name.clone(),
                why: check.demand.why(),
            }),
            None => Ok(()),
        }
    }

    /// The first check that does not hold. The last value of a field is the one that counts.
    fn broken(&self, wire: &[u8]) -> Option<&Check> {
        self.0
            .iter()
            .find(|check| last_value(wire, check) == Some(false))
    }
}

/// Whether the last value of the check's field holds, if there is one.
fn last_value(mut wire: &[u8], check: &Check) -> Option<bool> {
    let mut holds = None;
    while !wire.is_empty() {
        let (number, wire_type) = decode_key(&mut wire).ok()?;
        if number != check.number {
            skip_field(wire_type, number, &mut wire, DecodeContext::default()).ok()?;
            continue;
        }
        let value = decode_varint(&mut wire).ok()?;
        if wire_type == WireType::Varint {
            holds = Some(check.demand.holds_number(number_of(check.kind, value)));
            continue;
        }
        let (text, rest) = wire.split_at_checked(usize::try_from(value).ok()?)?;
        wire = rest;
        if let Demand::OneOf(words) = &check.demand {
            holds = Some(words.iter().any(|word| word.as_bytes() == text));
        }
    }
    holds
}

/// The number that a varint stands for. An unsigned one beyond `i64::MAX` counts as that.
fn number_of(kind: Kind, value: u64) -> i64 {
    match kind {
        Kind::Uint32 | Kind::Uint64 => i64::try_from(value).unwrap_or(i64::MAX),
        Kind::Sint32 | Kind::Sint64 => (value >> 1) as i64 ^ -((value & 1) as i64),
        _ => value as i64,
    }
}

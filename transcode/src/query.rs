//! The query of a request: which parameters a method has, and their way into the message.
//!
//! A parameter names a field (JSON or original name, nested with dots) that neither the path nor
//! the body binds; repeated fields take several. It refuses what the message does not have
//! (unless unknown fields are ignored), a single field that is given twice, two members of one
//! oneof, and fields that have no text form: maps and messages without one. Spec:
//! `google/api/http.proto`, "rules for HTTP mapping".

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::codec::Codec;
use crate::options::UnknownFields;
use crate::path::FieldPath;
use crate::percent::{self, Decoded, Mode};
use crate::request::RequestError;
use crate::schema::{Cardinality, MessageId, Schema};

/// Names of more steps than this are not looked up: no message can be nested deeper.
const MAX_STEPS: usize = 100;

/// What binds the fields of a request outside the query.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Fields that the path binds.
    pub(crate) path: Vec<FieldPath>,
    /// The field that the body is.
    pub(crate) body: Option<FieldPath>,
    /// The body is the whole message, so no parameter is left.
    pub(crate) whole: bool,
}

/// The parameters of one binding.
#[derive(Debug)]
pub(crate) struct Query {
    input: MessageId,
    /// Fields of the message itself, by both names; nested ones are resolved when they come.
    names: HashMap<Box<str>, usize>,
    targets: Vec<Target>,
    taken: Taken,
    ignore_unknown: bool,
}

/// What a parameter's name stands for.
#[derive(Clone, Debug)]
enum Target {
    /// One value.
    Single(FieldPath),
    /// One more element.
    Element(FieldPath),
    /// Not a parameter of this method, and why.
    No(&'static str),
}

const FROM_PATH: &str = "is taken from the path";
const FROM_BODY: &str = "is taken from the body";
const NO_TEXT: &str = "is not a value that a query can hold; name a field inside it";
const A_MAP: &str = "is a map, which a query cannot hold";
const ONEOF_OF_PATH: &str = "excludes a field that is taken from the path";
const UNKNOWN: &str = "is not a parameter of this method";
const TWICE: &str = "is given more than once";
const ONEOF: &str = "excludes another parameter that is given too";

impl Query {
    pub(crate) fn new(codec: &Codec, input: MessageId, taken: Taken) -> Query {
        let schema = codec.schema();
        let mut query = Query {
            input,
            names: HashMap::new(),
            targets: Vec::new(),
            taken,
            ignore_unknown: codec.options().unknown_fields == UnknownFields::Ignore,
        };
        let fields = &schema.message_info(input).fields;
        // Original names first, so that a JSON name wins where another field is called like it.
        let original = fields.iter().map(|field| &field.name);
        for name in original.chain(fields.iter().map(|field| &field.json_name)) {
            if let Ok(path) = FieldPath::resolve(schema, input, name) {
                query
                    .names
                    .insert(name.as_str().into(), query.targets.len());
                query.targets.push(query.target(schema, path));
            }
        }
        query
    }

    /// Appends the parameters of a raw query to the message.
    pub(crate) fn encode(
        &self,
        codec: &Codec,
        raw: &str,
        wire: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
        let mut seen = Seen::default();
        let mut name_space = Decoded::new();
        let mut value_space = Decoded::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = match percent::decode(raw_name, Mode::Query, &mut name_space) {
                Ok(name) => name,
                Err(_) if self.ignore_unknown => continue,
                Err(why) => return Err(RequestError::query(raw_name, why)),
            };
            let nested;
            let target = match self
                .names
                .get(name)
                .and_then(|index| self.targets.get(*index))
            {
                Some(target) => target,
                None => {
                    nested = self.nested(codec.schema(), name);
                    &nested
                }
            };
            let field = match target {
                Target::Single(field) => {
                    seen.add(codec.schema(), field)
                        .map_err(|why| RequestError::query(name, why))?;
                    field
                }
                Target::Element(field) => field,
                Target::No(_) if self.ignore_unknown => continue,
                Target::No(why) => return Err(RequestError::query(name, why)),
            };
            let value = percent::decode(raw_value, Mode::Query, &mut value_space)
                .map_err(|why| RequestError::query(name, why))?;
            codec
                .encode_text(field, value, wire)
                .map_err(|error| RequestError::query(name, error.what()))?;
        }
        Ok(())
    }

    /// The target of a name that is not a field of the message itself.
    fn nested(&self, schema: &Schema, name: &str) -> Target {
        let nested = name.contains('.') && name.split('.').count() <= MAX_STEPS;
        match FieldPath::resolve(schema, self.input, name) {
            Ok(path) if nested => self.target(schema, path),
            _ => Target::No(UNKNOWN),
        }
    }

    fn target(&self, schema: &Schema, path: FieldPath) -> Target {
        let within = |taken: &FieldPath| path.steps().starts_with(taken.steps());
        if self.taken.path.iter().any(within) {
            return Target::No(FROM_PATH);
        }
        if self.taken.whole || self.taken.body.as_ref().is_some_and(within) {
            return Target::No(FROM_BODY);
        }
        let excluded = |taken: &FieldPath| excludes(schema, path.steps(), taken.steps());
        if self.taken.path.iter().any(excluded) {
            return Target::No(ONEOF_OF_PATH);
        }
        match path.field(schema).cardinality {
            Cardinality::Map => Target::No(A_MAP),
            _ if !path.takes_text(schema) => Target::No(NO_TEXT),
            Cardinality::Single => Target::Single(path),
            Cardinality::Repeated => Target::Element(path),
        }
    }

    /// The fields of the message itself that may be given in the query.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &FieldPath> {
        // Each field has two names, so it stands here twice: the originals come first.
        self.targets
            .iter()
            .take(self.targets.len() / 2)
            .filter_map(|target| match target {
                Target::Single(path) | Target::Element(path) => Some(path),
                Target::No(_) => None,
            })
    }
}

/// The single fields that were given so far, as the steps of their paths.
#[derive(Default)]
struct Seen(SmallVec<[Steps; 8]>);

type Step = (MessageId, usize);
type Steps = SmallVec<[Step; 2]>;

impl Seen {
    /// Notes a field; refuses it if it, or another member of a oneof on its path, was there.
    fn add(&mut self, schema: &Schema, path: &FieldPath) -> Result<(), &'static str> {
        let steps = path.steps();
        for other in &self.0 {
            if steps == other.as_slice() {
                return Err(TWICE);
            }
            if excludes(schema, steps, other) {
                return Err(ONEOF);
            }
        }
        self.0.push(steps.into());
        Ok(())
    }
}

/// Whether two paths part at two members of one oneof.
fn excludes(schema: &Schema, ours: &[Step], theirs: &[Step]) -> bool {
    let oneof = |(message, index): &Step| {
        let fields = &schema.message_info(*message).fields;
        fields.get(*index).and_then(|field| field.oneof)
    };
    let mut steps = ours.iter().zip(theirs);
    let fork = steps.find(|(ours, theirs)| ours != theirs);
    fork.is_some_and(|(ours, theirs)| oneof(ours).is_some() && oneof(ours) == oneof(theirs))
}

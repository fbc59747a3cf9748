//! Parameters beside the path: fields that the query may hold, those inside messages by their paths. Headers are told of in words.

use serde_json::{Value, json};

use super::{constraints, described, scalar};
use crate::binding::{Binding, Body};
use crate::codec::Codec;
use crate::options::Names;
use crate::path::FieldPath;
use crate::schema::{Cardinality, Field, Kind, MessageId};

/// How deep fields inside messages are told of: they may refer to themselves.
const MOST_STEPS: usize = 3;

/// The parameters of the query.
pub(super) fn query(binding: &Binding) -> Vec<Value> {
    if matches!(binding.body, Body::Whole) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let walk = Walk {
        binding,
        codec: &binding.codec,
    };
    walk.inside(binding.input, &mut Vec::new(), "", &mut found);
    found
}

struct Walk<'b> {
    binding: &'b Binding,
    codec: &'b Codec,
}

type Steps = Vec<(MessageId, usize)>;

impl Walk<'_> {
    fn inside(&self, message: MessageId, steps: &mut Steps, before: &str, found: &mut Vec<Value>) {
        let fields = self.codec.schema().message_info(message).fields.iter();
        for field in fields.filter(|field| !field.extension && !field.told.output_only) {
            steps.push((message, field.index));
            if !self.is_taken(steps) {
                let name = match self.codec.options().names {
                    Names::Camel => format!("{before}{}", field.json_name),
                    Names::Original => format!("{before}{}", field.name),
                };
                self.field(field, name, steps, found);
            }
            steps.pop();
        }
    }

    /// Whether the path or the body binds it.
    fn is_taken(&self, steps: &Steps) -> bool {
        let is = |path: &FieldPath| path.steps() == steps.as_slice();
        let body = match &self.binding.body {
            Body::Field(path) => is(path),
            Body::None | Body::Whole => false,
        };
        body || self.binding.variables.iter().any(|bound| is(&bound.field))
    }

    fn field(&self, field: &Field, name: String, steps: &mut Steps, found: &mut Vec<Value>) {
        let schema = self.codec.schema();
        match field.kind {
            _ if field.cardinality == Cardinality::Map => {}
            Kind::Message(id) if !scalar::has_text(schema, id) => {
                let plain = schema.message_info(id).well_known.is_none();
                let single = field.cardinality == Cardinality::Single;
                if plain && single && steps.len() < MOST_STEPS {
                    self.inside(id, steps, &format!("{name}."), found);
                }
            }
            _ => found.push(self.parameter(field, &name, steps.len() == 1)),
        }
    }

    fn parameter(&self, field: &Field, name: &str, outermost: bool) -> Value {
        let mut of = constraints::of_value(field, scalar::text(self.codec.schema(), field));
        if outermost {
            self.binding.checks.describe(field, &mut of);
        }
        if field.cardinality == Cardinality::Repeated {
            of = constraints::of_list(field, of);
        }
        let required = outermost && constraints::is_required(field);
        let parameter = json!({ "name": name, "in": "query", "required": required, "schema": of });
        described(parameter, &field.comment)
    }
}

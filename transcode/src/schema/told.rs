//! What a field's options tell its callers: `google.api.field_behavior`, and the rules of protovalidate. No table is built from
//! it: it is the service that holds callers to it.
//!
//! Spec: <https://google.aip.dev/203>, <https://protovalidate.com/>

use crate::descriptor::{FieldOptions, FieldRules};

const REQUIRED: i32 = 2;
const OUTPUT_ONLY: i32 = 3;
const INPUT_ONLY: i32 = 4;
const IGNORE_IF_ZERO: i32 = 1;
const IGNORE_ALWAYS: i32 = 3;

/// What is told of a field's values.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Callers have to give it.
    pub(crate) required: bool,
    /// Only answers have it.
    pub(crate) output_only: bool,
    /// Only requests have it.
    pub(crate) input_only: bool,
    /// What its values have to be.
    pub(crate) rules: Option<Box<FieldRules>>,
    /// The default value is one of them, whatever the rules say.
    pub(crate) or_default: bool,
}

impl Told {
    pub(super) fn new(options: Option<&FieldOptions>) -> Told {
        let Some(options) = options else {
            return Told::default();
        };
        let behaves = |as_| options.behavior.contains(&as_);
        let rules = options.rules.as_ref();
        let rules = rules.filter(|rules| rules.ignore != IGNORE_ALWAYS);
        Told {
            required: behaves(REQUIRED) || rules.is_some_and(|rules| rules.required),
            output_only: behaves(OUTPUT_ONLY),
            input_only: behaves(INPUT_ONLY),
            or_default: rules.is_some_and(|rules| rules.ignore == IGNORE_IF_ZERO),
            rules: rules.cloned().map(Box::new),
        }
    }

    /// Whether a field without presence must not be left out, because its default breaks the rules.
    pub(crate) fn refuses_default(&self) -> bool {
        let Some(rules) = self.rules.as_ref().filter(|_| !self.or_default) else {
            return false;
        };
        let at_least = |least: Option<u64>| least.is_some_and(|least| least > 0);
        let text = rules.string.as_ref().is_some_and(|text| {
            let empty_is_one = text.r#in.is_empty() || text.r#in.iter().any(String::is_empty);
            at_least(text.min_len) || at_least(text.min_bytes) || !empty_is_one
        });
        text || rules
            .repeated
            .as_ref()
            .is_some_and(|list| at_least(list.min_items))
    }
}

//! `overload`: from when on requests are shed, whatever their route.

use crate::model::Overload;
use crate::reader::Value;
use crate::report::Report;
use crate::schema::OVERLOAD;

pub(crate) fn overload(value: &Value<'_>, report: &mut Report) -> Option<Overload> {
    let fields = value.fields(&OVERLOAD, report)?;
    if fields.is_empty() {
        return value.wrong(
            report,
            "it looks at nothing: give memory, loop_lag or connections",
        );
    }
    let memory = fields.read("memory", report, Value::size);
    let loop_lag = fields.read("loop_lag", report, Value::timeout);
    let connections = fields.read("connections", report, Value::some_share);
    Some(Overload {
        memory,
        loop_lag,
        connections,
    })
}

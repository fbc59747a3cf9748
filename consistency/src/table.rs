//! The table at the end: what everybody says of each counter.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::verdict::Row;

/// A line for each counter.
pub(crate) fn of(rows: &BTreeMap<String, Row>) -> String {
    let mut table = format!(
        "{:<14} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
        "counter",
        "acked",
        "unknown",
        "sum",
        "count",
        "events",
        "their sum",
        "all time",
        "day",
        "series"
    );
    for (counter, row) in rows {
        let told: i64 = row.events.iter().map(|event| event.delta).sum();
        let said = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{counter:<14} {:>9} {:>8} {:>9} {:>9} {:>9} {told:>9} {:>9} {:>9} {:>9}  {}",
            row.sent.acknowledged.len(),
            row.sent.unknown,
            row.sum(),
            row.count,
            row.events.len(),
            said(row.all),
            said(row.day),
            said(row.total),
            if row.differences().next().is_none() {
                "ok"
            } else {
                "WRONG"
            }
        );
    }
    table
}

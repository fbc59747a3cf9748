//! `clusters[]`: `retry_budget`, `breaker`, `outlier_detection` and `adaptive_concurrency`. What a map does not
//! give keeps its default.

use std::num::NonZeroUsize;

use crate::model::{AdaptiveConcurrency, Breaker, OutlierDetection, RetryBudget};
use crate::reader::Value;
use crate::report::Report;
use crate::schema::{ADAPTIVE_CONCURRENCY, BREAKER, OUTLIER_DETECTION, RETRY_BUDGET};

pub(crate) fn retry_budget(value: &Value<'_>, report: &mut Report) -> Option<RetryBudget> {
    let fields = value.fields(&RETRY_BUDGET, report)?;
    let defaults = RetryBudget::default();
    let ratio = fields.or("ratio", defaults.ratio, report, Value::share);
    let min_per_second = fields.or(
        "min_per_second",
        defaults.min_per_second,
        report,
        |value, report| {
            let count = value.count(report)?;
            u32::try_from(count).ok()
        },
    );
    Some(RetryBudget {
        ratio,
        min_per_second,
    })
}

pub(crate) fn breaker(value: &Value<'_>, report: &mut Report) -> Option<Breaker> {
    let fields = value.fields(&BREAKER, report)?;
    let defaults = Breaker::default();
    let mut timeout = |key, default| fields.or(key, default, report, Value::timeout);
    let window = timeout("window", defaults.window);
    let slow_call = timeout("slow_call", defaults.slow_call);
    let hold = timeout("hold", defaults.hold);
    let max_hold = timeout("max_hold", defaults.max_hold.max(hold));
    if max_hold < hold {
        let why =
            format!("{max_hold} is shorter than `hold` ({hold}), and it is what `hold` grows to");
        value.problem_below(report, "max_hold", why);
    }
    let mut share = |key, default| fields.or(key, default, report, Value::some_share);
    let failure_ratio = share("failure_ratio", defaults.failure_ratio);
    let slow_ratio = share("slow_ratio", defaults.slow_ratio);
    let mut number = |key, default| fields.or(key, default, report, Value::positive_number);
    let min_requests = number("min_requests", defaults.min_requests);
    let probes = number("probes", defaults.probes);
    Some(Breaker {
        window,
        min_requests,
        failure_ratio,
        slow_call,
        slow_ratio,
        hold,
        max_hold,
        probes,
    })
}

pub(crate) fn outlier_detection(
    value: &Value<'_>,
    report: &mut Report,
) -> Option<OutlierDetection> {
    let fields = value.fields(&OUTLIER_DETECTION, report)?;
    let defaults = OutlierDetection::default();
    let consecutive_failures = fields.or(
        "consecutive_failures",
        defaults.consecutive_failures,
        report,
        Value::positive_number,
    );
    let success_rate = fields.or(
        "success_rate",
        defaults.success_rate,
        report,
        Value::boolean,
    );
    let latency = fields.or("latency", defaults.latency, report, Value::boolean);
    let mut timeout = |key, default| fields.or(key, default, report, Value::timeout);
    let interval = timeout("interval", defaults.interval);
    let base_ejection = timeout("base_ejection", defaults.base_ejection);
    let max_ejection = timeout("max_ejection", defaults.max_ejection.max(base_ejection));
    if max_ejection < base_ejection {
        let why = format!(
            "{max_ejection} is shorter than `base_ejection` ({base_ejection}), and it is what that grows to"
        );
        value.problem_below(report, "max_ejection", why);
    }
    let max_ejected = fields.or("max_ejected", defaults.max_ejected, report, Value::share);
    Some(OutlierDetection {
        consecutive_failures,
        success_rate,
        latency,
        interval,
        base_ejection,
        max_ejection,
        max_ejected,
    })
}

/// `Some(None)`: it is written, and off.
pub(crate) fn adaptive_concurrency(
    value: &Value<'_>,
    requests: NonZeroUsize,
    report: &mut Report,
) -> Option<Option<AdaptiveConcurrency>> {
    let fields = value.fields(&ADAPTIVE_CONCURRENCY, report)?;
    let enabled = fields.required("enabled", report, Value::boolean)?;
    let max = fields.or("max", requests, report, Value::positive);
    if max > requests {
        let why = format!("{max} is more than `limits.requests` ({requests}), which always holds");
        value.problem_below(report, "max", why);
    }
    let default = AdaptiveConcurrency::DEFAULT_MIN.min(max);
    let min = fields.or("min", default, report, Value::positive);
    if min > max {
        let why = format!("{min} is more than the largest limit ({max})");
        value.problem_below(report, "min", why);
    }
    Some(enabled.then_some(AdaptiveConcurrency { min, max }))
}

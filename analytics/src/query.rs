//! Requests as the contract has them, checked and turned into queries; page tokens.
//!
//! Everything that does not fit is INVALID_ARGUMENT with the field and what is allowed. `range` beats `period`, which is then
//! not looked at. A page token names the ranking that it belongs to: with another one it is refused.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::analytics::{StatsRequest, TimeRange, TopCountersRequest};

use crate::state::{Over, Period, Place, Resolution, Seconds, SeriesQuery, TopQuery};

const MAX_RESOURCE_ID: usize = 256;
const MAX_COUNTER_TYPE: usize = 64;
const DEFAULT_LIMIT: i32 = 10;
const MAX_LIMIT: i32 = 1000;
/// Buckets in one answer: 1,500 minutes, 768 hours and 400 days are what is kept.
const MAX_BUCKETS: i64 = 2000;
/// Seconds beyond this are not a time: bucket arithmetic must not overflow.
const MAX_SECOND: i64 = 1 << 40;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub(crate) struct Invalid {
    /// The field of the request.
    pub(crate) field: &'static str,
    /// What is wrong with it, and what is allowed.
    pub(crate) why: String,
}

fn invalid<T>(field: &'static str, why: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid {
        field,
        why: why.into(),
    })
}

/// Checks a request for a ranking.
pub(crate) fn top(request: &TopCountersRequest) -> Result<TopQuery, Invalid> {
    let counter_type = counter_type(&request.counter_type)?;
    let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return invalid("limit", format!("{limit} is not in 1 to {MAX_LIMIT}"));
    }
    let over = match &request.range {
        Some(range) => Over::Range(seconds(range)?),
        None => Over::Period(period(&request.period)?),
    };
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(read_token(token, &counter_type, over)?),
    };
    Ok(TopQuery {
        counter_type,
        over,
        limit: usize::try_from(limit).unwrap_or_default(),
        after,
    })
}

/// Checks a request for the buckets of a counter, at a time.
pub(crate) fn series(request: &StatsRequest, now: i64) -> Result<SeriesQuery, Invalid> {
    let counter_type = counter_type(&request.counter_type)?;
    let resource_id = request.resource_id.clone();
    id("resource_id", &resource_id, MAX_RESOURCE_ID)?;
    let asked = match request.resolution.as_str() {
        "" => None,
        name => Some(resolution(name)?),
    };
    let (range, resolution) = match &request.range {
        Some(range) => {
            let range = seconds(range)?;
            let resolution = asked.unwrap_or_else(|| sensible(range, now));
            (resolution.around(range), resolution)
        }
        None => of_period(period(&request.period)?, asked, now),
    };
    if range.start < now - resolution.kept() - resolution.width() {
        let days = resolution.kept() / 86400;
        let hours = resolution.kept() / 3600;
        let kept = if days > 2 {
            format!("{days} days")
        } else {
            format!("{hours} hours")
        };
        return invalid(
            "resolution",
            format!(
                "buckets of a {} are kept for {kept}: ask for coarser ones or a later range",
                resolution.name()
            ),
        );
    }
    let buckets = (range.end - range.start) / resolution.width();
    if buckets > MAX_BUCKETS {
        return invalid(
            "resolution",
            format!(
                "{buckets} buckets are more than {MAX_BUCKETS}: ask for coarser ones or a shorter range"
            ),
        );
    }
    Ok(SeriesQuery {
        counter_type,
        resource_id,
        range,
        resolution,
    })
}

/// The token of the page after a place.
pub(crate) fn token(query: &TopQuery, last: &Place) -> String {
    let mut text = scope(&query.counter_type, query.over);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n{}\n{}\n{}",
        last.rank, last.value, last.resource_id
    );
    URL_SAFE_NO_PAD.encode(text)
}

fn read_token(token: &str, counter_type: &str, over: Over) -> Result<Place, Invalid> {
    let unreadable = || Invalid {
        field: "page_token",
        why: "not one that this service gave".to_owned(),
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| unreadable())?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unreadable())?;
    let mut parts = text.splitn(4, '\n');
    let mut part = || parts.next().ok_or_else(unreadable);
    let (found, rank, value, resource_id) = (part()?, part()?, part()?, part()?);
    if found != scope(counter_type, over) {
        return invalid(
            "page_token",
            "belongs to another ranking: keep counter_type, period and range",
        );
    }
    let rank = rank.parse().map_err(|_| unreadable())?;
    let value = value.parse().map_err(|_| unreadable())?;
    Ok(Place {
        rank,
        value,
        error: 0,
        resource_id: resource_id.into(),
    })
}

/// What a token is good for. Types have no control characters, so a line each is unambiguous.
fn scope(counter_type: &str, over: Over) -> String {
    match over {
        Over::Period(period) => format!("{counter_type} {}", period.name()),
        Over::Range(range) => format!("{counter_type} {}-{}", range.start, range.end),
    }
}

fn counter_type(text: &str) -> Result<String, Invalid> {
    id("counter_type", text, MAX_COUNTER_TYPE)?;
    if text.contains([':', '{', '}']) {
        return invalid("counter_type", "`:`, `{` and `}` are not allowed");
    }
    Ok(text.to_owned())
}

fn id(field: &'static str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.is_empty() {
        return invalid(field, "must not be empty");
    }
    if text.len() > max {
        return invalid(field, format!("{} bytes are more than {max}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return invalid(field, "control characters are not allowed");
    }
    Ok(())
}

fn period(name: &str) -> Result<Period, Invalid> {
    Ok(match name {
        "" | "day" => Period::Day,
        "hour" => Period::Hour,
        "week" => Period::Week,
        "month" => Period::Month,
        "all" => Period::All,
        other => {
            return invalid(
                "period",
                format!("`{other}` is not one of hour, day, week, month, all"),
            );
        }
    })
}

fn resolution(name: &str) -> Result<Resolution, Invalid> {
    let found = Resolution::ALL
        .into_iter()
        .find(|resolution| resolution.name() == name);
    found.map_or_else(
        || {
            invalid(
                "resolution",
                format!("`{name}` is not one of minute, hour, day"),
            )
        },
        Ok,
    )
}

fn seconds(range: &TimeRange) -> Result<Seconds, Invalid> {
    let TimeRange { start, end } = *range;
    if start < 0 || end > MAX_SECOND {
        return invalid("range", "start and end are unix seconds");
    }
    if start >= end {
        return invalid("range", format!("start {start} is not before end {end}"));
    }
    Ok(Seconds { start, end })
}

/// Whole buckets up to the one that is filling now.
fn of_period(period: Period, asked: Option<Resolution>, now: i64) -> (Seconds, Resolution) {
    let default = match period {
        Period::Hour => Resolution::Minute,
        Period::Day | Period::Week => Resolution::Hour,
        Period::Month | Period::All => Resolution::Day,
    };
    let resolution = asked.unwrap_or(default);
    let width = resolution.width();
    let end = (resolution.bucket(now) + 1) * width;
    // All time is as far back as the buckets are kept.
    let length = period
        .window()
        .map_or(resolution.kept(), |(length, _)| length);
    let buckets = (length / width).max(1);
    (
        Seconds {
            start: end - buckets * width,
            end,
        },
        resolution,
    )
}

/// The finest resolution that is kept for all of the range and does not make a long list of it.
fn sensible(range: Seconds, now: i64) -> Resolution {
    let fits = |resolution: &Resolution| {
        let most = match resolution {
            Resolution::Minute => 3 * 3600,
            Resolution::Hour => 8 * 86400,
            Resolution::Day => i64::MAX,
        };
        range.end - range.start <= most && range.start >= now - resolution.kept()
    };
    Resolution::ALL
        .into_iter()
        .find(fits)
        .unwrap_or(Resolution::Day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn request() -> TopCountersRequest {
        TopCountersRequest {
            counter_type: "like".to_owned(),
            ..TopCountersRequest::default()
        }
    }

    #[test]
    fn defaults_are_ten_of_the_day() {
        let query = top(&request()).unwrap();
        assert_eq!((query.limit, query.over), (10, Over::Period(Period::Day)));
    }

    #[test]
    fn a_range_beats_a_period_of_any_name() {
        let range = Some(TimeRange {
            start: 60,
            end: 120,
        });
        let query = top(&TopCountersRequest {
            period: "fortnight".to_owned(),
            range,
            ..request()
        })
        .unwrap();
        assert_eq!(
            query.over,
            Over::Range(Seconds {
                start: 60,
                end: 120
            })
        );
    }

    #[test]
    fn everything_else_is_refused_by_field() {
        type Change = fn(&mut TopCountersRequest);
        let changes: [(&str, Change); 13] = [
            ("limit", |wrong| wrong.limit = Some(0)),
            ("limit", |wrong| wrong.limit = Some(1001)),
            ("limit", |wrong| wrong.limit = Some(-1)),
            ("period", |wrong| wrong.period = "Day".to_owned()),
            ("counter_type", |wrong| wrong.counter_type = String::new()),
            ("counter_type", |wrong| {
                wrong.counter_type = "a:b".to_owned()
            }),
            ("counter_type", |wrong| {
                wrong.counter_type = "a\n".to_owned()
            }),
            ("counter_type", |wrong| wrong.counter_type = "x".repeat(65)),
            ("range", |wrong| {
                wrong.range = Some(TimeRange { start: 5, end: 5 })
            }),
            ("range", |wrong| {
                wrong.range = Some(TimeRange { start: -1, end: 5 })
            }),
            ("range", |wrong| {
                wrong.range = Some(TimeRange {
                    start: 0,
                    end: i64::MAX,
                })
            }),
            ("page_token", |wrong| wrong.page_token = "AAAA".to_owned()),
            ("page_token", |wrong| wrong.page_token = "?".to_owned()),
        ];
        for (field, change) in changes {
            let mut wrong = request();
            change(&mut wrong);
            assert_eq!(top(&wrong).unwrap_err().field, field, "{wrong:?}");
        }
    }

    #[test]
    fn a_token_comes_back_for_its_own_ranking_only() {
        let query = top(&request()).unwrap();
        let place = Place {
            rank: 10,
            value: -3,
            error: 0,
            resource_id: "a b/c".into(),
        };
        let page_token = token(&query, &place);
        let again = TopCountersRequest {
            page_token: page_token.clone(),
            ..request()
        };
        assert_eq!(top(&again).unwrap().after, Some(place));
        let other = TopCountersRequest {
            page_token,
            period: "hour".to_owned(),
            ..request()
        };
        assert_eq!(top(&other).unwrap_err().field, "page_token");
    }

    fn stats(
        period: &str,
        resolution: &str,
        range: Option<TimeRange>,
    ) -> Result<SeriesQuery, Invalid> {
        let request = StatsRequest {
            resource_id: "a".to_owned(),
            counter_type: "like".to_owned(),
            period: period.to_owned(),
            resolution: resolution.to_owned(),
            range,
        };
        series(&request, NOW)
    }

    #[test]
    fn periods_have_whole_buckets_up_to_now() {
        for (period, resolution, buckets, width) in [
            ("hour", "", 60, 60),
            ("day", "", 24, 3600),
            ("", "minute", 1440, 60),
            ("week", "", 168, 3600),
            ("week", "day", 7, 86400),
            ("month", "", 30, 86400),
            ("hour", "day", 1, 86400),
            ("all", "", 400, 86400),
        ] {
            let query = stats(period, resolution, None).unwrap();
            assert_eq!(
                query.range.end - query.range.start,
                buckets * width,
                "{period} {resolution}"
            );
            assert!(
                query.range.end > NOW && query.range.end <= NOW + width,
                "{period} {resolution}"
            );
        }
    }

    #[test]
    fn a_range_is_widened_to_whole_buckets() {
        let query = stats(
            "",
            "hour",
            Some(TimeRange {
                start: NOW - 3000,
                end: NOW,
            }),
        )
        .unwrap();
        assert_eq!(query.range.start % 3600, 0);
        assert!(query.range.start <= NOW - 3000 && query.range.end >= NOW);
        let range = |back| {
            Some(TimeRange {
                start: NOW - back,
                end: NOW,
            })
        };
        assert_eq!(
            stats("", "", range(3600)).unwrap().resolution,
            Resolution::Minute
        );
        assert_eq!(
            stats("", "", range(86400)).unwrap().resolution,
            Resolution::Hour
        );
        assert_eq!(
            stats("", "", range(20 * 86400)).unwrap().resolution,
            Resolution::Day
        );
    }

    #[test]
    fn buckets_that_are_not_kept_are_refused() {
        assert_eq!(
            stats("week", "minute", None).unwrap_err().field,
            "resolution"
        );
        assert_eq!(
            stats(
                "",
                "hour",
                Some(TimeRange {
                    start: 0,
                    end: 7200
                })
            )
            .unwrap_err()
            .field,
            "resolution"
        );
        assert_eq!(stats("", "second", None).unwrap_err().field, "resolution");
        let beyond = TimeRange {
            start: NOW,
            end: NOW + 10_000_000_000,
        };
        assert_eq!(
            stats("", "day", Some(beyond)).unwrap_err().field,
            "resolution"
        );
    }
}

//! More counters than there are leaders, and more than fit the memory.

use std::collections::BTreeMap;

use highpress_analytics::state::{Over, Period, Place, TopQuery};
use highpress_analytics::tally::Tally;

use crate::model::{MEMORY, Model, NOW, ask, deliver};

/// Rankings of more counters than there are leaders, all values moving up and down.
#[test]
fn many_counters_are_ranked_as_if_all_were_sorted() {
    let state = Tally::in_memory(MEMORY);
    let mut model = Model::default();
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut now = NOW;
    for round in 0..12 {
        let mut events = Vec::new();
        for _ in 0..3000 {
            let resource = format!("r{}", next(12_000));
            let delta = i64::try_from(next(9)).unwrap() - if round > 6 { 6 } else { 2 };
            let age = i64::try_from(next(300)).unwrap();
            events.push(model.add("like", &resource, delta, now - age, now));
        }
        deliver(&state, events, now);
        now += 400;
        if round % 4 == 3 {
            compare_first(&state, &model, now);
        }
    }
}

fn compare_first(state: &Tally, model: &Model, now: i64) {
    for period in [Period::Hour, Period::Day, Period::Month, Period::All] {
        let whole = model.top("like", period, now);
        for (limit, skip) in [(100, 0), (1000, 0), (50, 900), (10, 5000)] {
            let after = (skip > 0).then(|| Place {
                rank: skip,
                value: whole[skip as usize - 1].1,
                error: 0,
                resource_id: whole[skip as usize - 1].0.as_str().into(),
            });
            let query = TopQuery {
                counter_type: "like".to_owned(),
                over: Over::Period(period),
                limit,
                after,
            };
            let top = ask(state, &query, now);
            let found: Vec<_> = top
                .places
                .iter()
                .map(|place| (place.resource_id.to_string(), place.value))
                .collect();
            let skip = skip as usize;
            let end = (skip + limit).min(whole.len());
            assert_eq!(
                found,
                whole[skip.min(end)..end],
                "{period:?} {limit} after {skip}"
            );
            assert_eq!(top.more, end < whole.len());
        }
    }
}

/// Memory for a few thousand counters, events of many more: what answers say they may be wrong by is never too little.
#[test]
fn estimates_keep_to_their_bounds() {
    let state = Tally::in_memory(1 << 20);
    let mut model = Model::default();
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut now = NOW;
    let mut estimated = false;
    for round in 0..24 {
        let mut events = Vec::new();
        for _ in 0..2000 {
            // Some are counted often, most once in a while.
            let resource = if next(3) == 0 {
                format!("hot{}", next(50))
            } else {
                format!("cold{}", next(40_000))
            };
            let delta = i64::try_from(next(5)).unwrap() - 1;
            events.push(model.add(
                "like",
                &resource,
                delta,
                now - i64::try_from(next(100)).unwrap(),
                now,
            ));
        }
        deliver(&state, events, now);
        now += 97;
        if round % 8 == 7 {
            estimated |= bounds_hold(&state, &model, now);
        }
    }
    assert!(
        estimated,
        "the memory was enough for all: nothing was tested"
    );
    let size = state.size();
    assert!(size.bytes < 3 << 20, "{size:?}");
    // When all that went has left the window, answers are exact again.
    now += 3 * 3600;
    for at in 0..20 {
        let event = model.add("like", &format!("new{at}"), 1 + at, now, now);
        deliver(&state, vec![event], now);
    }
    let query = TopQuery {
        counter_type: "like".to_owned(),
        over: Over::Period(Period::Hour),
        limit: 100,
        after: None,
    };
    let top = ask(&state, &query, now);
    assert!(top.exact && top.places.iter().all(|place| place.error == 0));
    assert_eq!(top.places.len(), 20);
}

/// Whether anything was estimated; each value is right within what it says.
fn bounds_hold(state: &Tally, model: &Model, now: i64) -> bool {
    let mut estimated = false;
    for period in [Period::Hour, Period::Day, Period::Week, Period::All] {
        let whole = model.top("like", period, now);
        let truth: BTreeMap<&str, i128> = whole
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        for limit in [20, 400] {
            let query = TopQuery {
                counter_type: "like".to_owned(),
                over: Over::Period(period),
                limit,
                after: None,
            };
            let top = ask(state, &query, now);
            for place in &top.places {
                let value = truth.get(&*place.resource_id).copied().unwrap_or(0);
                assert!(
                    (place.value - place.error..=place.value).contains(&value),
                    "{period:?} {place:?} is {value}"
                );
            }
            let found: Vec<_> = top
                .places
                .iter()
                .map(|place| (place.resource_id.to_string(), place.value))
                .collect();
            if top.exact {
                assert_eq!(found, whole[..limit.min(whole.len())], "{period:?} {limit}");
            }
            // What is counted often is never in doubt.
            assert!(top.exact || limit > 20, "{period:?} {:?}", top.places);
            estimated |= !top.exact;
        }
    }
    estimated
}

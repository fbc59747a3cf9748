//! A naive model: the events themselves, summed up anew for each question.

use std::collections::BTreeMap;

use highpress_analytics::event::{self, Batch, Origin};
use highpress_analytics::state::{
    Over, Period, Place, Resolution, Seconds, SeriesQuery, Top, TopQuery,
};
use highpress_analytics::tally::Tally;
use proptest::prelude::*;

pub(crate) const NOW: i64 = 1_700_000_000;
/// More than any of these needs.
pub(crate) const MEMORY: u64 = 1 << 30;
pub(crate) const TYPES: [&str; 2] = ["like", "view"];

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Time passes, then an increment of so long ago is read.
    Event {
        passes: i64,
        counter_type: usize,
        resource: u8,
        delta: i64,
        age: i64,
    },
    /// The last so many events are delivered again.
    Repeat(usize),
    Checkpoint,
    /// The process is killed: what came after the last checkpoint is read again.
    Crash,
    /// All rankings are asked for, so that orders are kept from here on.
    Ask,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let passes = prop_oneof![
        Just(0),
        0..120_i64,
        0..7_200_i64,
        0..200_000_i64,
        Just(40 * 86400)
    ];
    let age = prop_oneof![
        0..3_600_i64,
        0..90_000_i64,
        0..40 * 86400_i64,
        Just(500 * 86400),
        -90_000..0_i64
    ];
    let delta = prop_oneof![1..5_i64, -5..0_i64, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        12 => (passes, 0..2_usize, 0..12_u8, delta, age).prop_map(|(passes, counter_type, resource, delta, age)| {
            Step::Event { passes, counter_type, resource, delta, age }
        }),
        1 => (0..20_usize).prop_map(Step::Repeat),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
        2 => Just(Step::Ask),
    ]
}

/// An event that owns its names.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) position: u64,
    pub(crate) resource_id: Box<str>,
    pub(crate) counter_type: Box<str>,
    pub(crate) delta: i64,
    pub(crate) new_value: i64,
    pub(crate) timestamp_ms: i64,
}

impl Event {
    pub(crate) fn second(&self) -> i64 {
        self.timestamp_ms.div_euclid(1000)
    }
}

pub(crate) fn batch(partition: u32, events: &[Event]) -> Batch {
    let mut batch = Batch::new(partition, 0);
    for event in events {
        batch.push(&event::Event {
            position: event.position,
            origin: Origin::Log,
            resource_id: &event.resource_id,
            counter_type: &event.counter_type,
            delta: event.delta,
            new_value: event.new_value,
            timestamp_ms: event.timestamp_ms,
        });
    }
    batch
}

/// What was read, with the time at which it was read first.
#[derive(Debug, Default)]
pub(crate) struct Model {
    events: Vec<(Event, i64)>,
    counts: BTreeMap<(String, String), i64>,
}

impl Model {
    pub(crate) fn add(
        &mut self,
        counter_type: &str,
        resource: &str,
        delta: i64,
        second: i64,
        now: i64,
    ) -> Event {
        let count = self
            .counts
            .entry((counter_type.to_owned(), resource.to_owned()))
            .or_default();
        // The counter service refuses what does not fit; a model of it must not send it.
        let delta = if count.checked_add(delta).is_some() {
            delta
        } else {
            0
        };
        *count += delta;
        let event = Event {
            position: self.events.len() as u64,
            resource_id: resource.into(),
            counter_type: counter_type.into(),
            delta,
            new_value: *count,
            timestamp_ms: second * 1000 + 7,
        };
        self.events.push((event.clone(), now));
        event
    }

    /// The second in which an event counts, if buckets of a resolution hold it: not if it came too late for them.
    pub(crate) fn second(event: &Event, read: i64, resolution: Resolution) -> Option<i64> {
        let second = event.second();
        let second = if second > read + 86400 { read } else { second };
        (resolution.bucket(second) >= resolution.bucket(read - resolution.kept())).then_some(second)
    }

    pub(crate) fn top(&self, counter_type: &str, period: Period, now: i64) -> Vec<(String, i128)> {
        let mut sums: BTreeMap<String, i128> = BTreeMap::new();
        match period.window() {
            None => {
                let of_type = self.counts.iter().filter(|((of, _), _)| of == counter_type);
                sums.extend(
                    of_type.map(|((_, resource), count)| (resource.clone(), i128::from(*count))),
                );
            }
            Some((_, resolution)) => {
                let range = period.range(now);
                for (event, read) in self
                    .events
                    .iter()
                    .filter(|(event, _)| &*event.counter_type == counter_type)
                {
                    let second = Self::second(event, *read, resolution);
                    if second.is_some_and(|second| (range.start..range.end).contains(&second)) {
                        *sums.entry(event.resource_id.to_string()).or_default() +=
                            i128::from(event.delta);
                    }
                }
            }
        }
        let mut ranked: Vec<_> = sums.into_iter().collect();
        ranked.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        ranked
    }

    pub(crate) fn series(&self, query: &SeriesQuery) -> Vec<i128> {
        let width = query.resolution.width();
        let mut values =
            vec![0; usize::try_from((query.range.end - query.range.start) / width).unwrap()];
        for (event, read) in &self.events {
            if *event.counter_type == query.counter_type && *event.resource_id == query.resource_id
            {
                let second = Self::second(event, *read, query.resolution);
                if let Some(second) =
                    second.filter(|second| (query.range.start..query.range.end).contains(second))
                {
                    values[usize::try_from((second - query.range.start) / width).unwrap()] +=
                        i128::from(event.delta);
                }
            }
        }
        values
    }
}

/// A page of the only partition there is.
pub(crate) fn ask(state: &Tally, query: &TopQuery, now: i64) -> Top {
    let mut shares = state.top(query, now, |_, _, _| now);
    assert!(shares.len() < 2);
    shares.pop().map_or(
        Top {
            places: Vec::new(),
            more: false,
            range: Seconds { start: 0, end: 0 },
            exact: true,
        },
        |share| share.answer,
    )
}

pub(crate) fn series(state: &Tally, query: &SeriesQuery, now: i64) -> Vec<i128> {
    let share = state.series(query, now, |_, _, _| now).pop();
    let series = share.and_then(|share| share.answer);
    series.map_or(vec![0; query.buckets()], |series| {
        assert!(series.exact);
        series.values
    })
}

/// All pages of a ranking, of a length that does not divide it.
pub(crate) fn pages(
    state: &Tally,
    counter_type: &str,
    over: Over,
    now: i64,
) -> Vec<(String, i128)> {
    let mut ranked = Vec::new();
    let mut after: Option<Place> = None;
    loop {
        let query = TopQuery {
            counter_type: counter_type.to_owned(),
            over,
            limit: 5,
            after,
        };
        let top = ask(state, &query, now);
        assert!(top.exact);
        for place in &top.places {
            ranked.push((place.resource_id.to_string(), place.value));
            assert_eq!(place.rank as usize, ranked.len());
        }
        if !top.more {
            return ranked;
        }
        after = top.places.last().cloned();
    }
}

pub(crate) fn compare(state: &Tally, model: &Model, now: i64) {
    for counter_type in TYPES {
        for period in [
            Period::Hour,
            Period::Day,
            Period::Week,
            Period::Month,
            Period::All,
        ] {
            let ranked = pages(state, counter_type, Over::Period(period), now);
            assert_eq!(
                ranked,
                model.top(counter_type, period, now),
                "{counter_type} {period:?}"
            );
            // The same seconds asked for as a range: hours and days from minutes, weeks and months from hours.
            if period.window().is_some() {
                let range = period.range(now);
                assert_eq!(
                    pages(state, counter_type, Over::Range(range), now),
                    ranked,
                    "{counter_type} {range:?}"
                );
            }
        }
    }
    for resolution in Resolution::ALL {
        let end = (resolution.bucket(now) + 2) * resolution.width();
        let start = end - (resolution.kept() / resolution.width()).min(300) * resolution.width();
        let query = SeriesQuery {
            counter_type: "like".to_owned(),
            resource_id: "r3".to_owned(),
            range: Seconds { start, end },
            resolution,
        };
        assert_eq!(
            series(state, &query, now),
            model.series(&query),
            "{resolution:?}"
        );
    }
}

pub(crate) fn deliver(state: &Tally, events: Vec<Event>, now: i64) {
    state.apply(&batch(0, &events), now).unwrap();
}

/// Opens what a killed process left, and reads on from there. Events may have become too late for some buckets meanwhile.
pub(crate) fn reopen(dir: &tempfile::TempDir, model: &mut Model, now: i64) -> Tally {
    let state = Tally::open(dir.path(), MEMORY, now).unwrap();
    let from = usize::try_from(state.positions().next(0)).unwrap();
    for (event, read) in &mut model.events[from..] {
        *read = now;
        deliver(&state, vec![event.clone()], now);
    }
    state
}

pub(crate) fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut state = Tally::open(dir.path(), MEMORY, NOW).unwrap();
    let mut model = Model::default();
    let mut now = NOW;
    for step in steps {
        match step {
            Step::Event {
                passes,
                counter_type,
                resource,
                delta,
                age,
            } => {
                now += passes;
                let event = model.add(
                    TYPES[counter_type],
                    &format!("r{resource}"),
                    delta,
                    now - age,
                    now,
                );
                deliver(&state, vec![event], now);
            }
            Step::Repeat(last) => {
                let from = model.events.len().saturating_sub(last);
                deliver(
                    &state,
                    model.events[from..]
                        .iter()
                        .map(|(event, _)| event.clone())
                        .collect(),
                    now,
                );
            }
            Step::Checkpoint => {
                let positions = state.checkpoint(now).unwrap();
                assert_eq!(positions.next(0), model.events.len() as u64);
            }
            Step::Crash => {
                drop(state);
                state = reopen(&dir, &mut model, now);
            }
            Step::Ask => compare(&state, &model, now),
        }
    }
    compare(&state, &model, now);
    drop(state);
    compare(&reopen(&dir, &mut model, now), &model, now);
}

//! Whether all of it agrees: what was acknowledged, what is counted, what Kafka has, what analytics says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::topic::{Event, Told};
use testkit::{Kafka, Program, eventually};

use crate::client::Door;
use crate::load::{Account, KEYED, Sent, UNKEYED};
use crate::mesh::{ANALYTICS, COUNTERS, KAFKA, Mesh, TOPIC};
use crate::part::Part;
use crate::table;

/// How long the way from the outbox into the rankings may take when nothing is in it any more.
const AT_LAST: Duration = Duration::from_secs(90);

/// What everybody says of one counter.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) sent: Sent,
    pub(crate) count: i64,
    pub(crate) events: Vec<Event>,
    /// Values in the rankings of all time and of the day, and the total of the day's series.
    pub(crate) all: Option<i64>,
    pub(crate) day: Option<i64>,
    pub(crate) total: Option<i64>,
}

/// How it ended.
#[derive(Debug)]
pub struct Verdict {
    /// A line for each counter.
    pub table: String,
    /// What is wrong; empty if nothing is.
    pub wrong: Vec<String>,
}

/// Waits until everything has arrived, asks everybody and compares.
pub(crate) async fn reach(mesh: &Mesh, account: Account) -> Verdict {
    arrived(mesh).await;
    let told = events(mesh).await;
    let mut wrong = account.wrong;
    wrong.extend(told.problems);
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (counter, sent) in account.counters {
        rows.entry(counter).or_default().sent = sent;
    }
    for (counter, events) in told.events {
        rows.entry(counter).or_default().events = events;
    }
    for front in mesh.fronts() {
        let mut door = Door::new(front);
        ask(&mut door, &mut rows).await;
        for (counter, row) in &rows {
            wrong.extend(row.differences().map(|why| format!("{counter}: {why}")));
        }
    }
    let audit = audit(mesh).await;
    wrong.extend(audit.as_ref().err().cloned());
    let increments: usize = rows.values().map(|row| row.sent.acknowledged.len()).sum();
    let mut table = table::of(&rows);
    table += &format!(
        "{increments} acknowledged increments, {} tries, {} answers replayed, {} messages in Kafka sent again\n\
         highpress-counter audit: {}\n",
        account.tries,
        account.replayed,
        told.repeats,
        if audit.is_ok() {
            "all agree"
        } else {
            "differs"
        }
    );
    Verdict { table, wrong }
}

/// Nothing is unsent, nothing is unread, and each instance answers for all partitions.
async fn arrived(mesh: &Mesh) {
    eventually("every event to be in Kafka", AT_LAST, async || {
        for counter in COUNTERS {
            let outbox = mesh.status(counter).await["outbox"].clone();
            if outbox["unsent"] != 0 {
                return Err(format!("{counter}: {outbox}"));
            }
        }
        Ok(())
    })
    .await;
    eventually("every event to be in the rankings", AT_LAST, async || {
        for analytics in ANALYTICS {
            let status = mesh.status(analytics).await;
            if status["lag"]["messages"] != 0 || status["ready"] != true {
                return Err(format!("{analytics}: {status}"));
            }
        }
        for front in mesh.fronts() {
            let path = format!("/api/v1/analytics/top/{KEYED}?period=all&limit=1");
            let answer = Door::new(front).ask("GET", &path, None, "").await?;
            if answer.body["exact"] != true {
                return Err(format!("{answer:?}"));
            }
        }
        Ok(())
    })
    .await;
}

async fn events(mesh: &Mesh) -> Told {
    let Part::Kafka(kafka) = &*mesh.part(KAFKA).await else {
        panic!("Kafka is Kafka");
    };
    let kafka: &Kafka = kafka;
    Told::new(&testkit::topic::read(kafka, TOPIC).await)
}

/// Counts and rankings as a client gets them.
async fn ask(door: &mut Door, rows: &mut BTreeMap<String, Row>) {
    let items: Vec<Value> = rows
        .keys()
        .filter_map(|counter| counter.rsplit_once(':'))
        .map(|(id, kind)| json!({"resource_id": id, "counter_type": kind}))
        .collect();
    let body = json!({ "items": items }).to_string();
    let answer = get(door, "POST", "/api/v1/counter/batch", &body).await;
    for found in answer["data"]["results"].as_array().into_iter().flatten() {
        if let Some(row) = rows.get_mut(&name(found)) {
            row.count = found["current_value"].as_i64().unwrap_or_default();
        }
    }
    for kind in [KEYED, UNKEYED] {
        let path = |period| format!("/api/v1/counter/hot/{kind}?limit=1000&period={period}");
        let all = get(door, "GET", &path("all"), "").await;
        let day = get(door, "GET", &path("day"), "").await;
        for (counter, row) in rows.iter_mut() {
            if counter.ends_with(&format!(":{kind}")) {
                row.all = ranked(&all, counter);
                row.day = ranked(&day, counter);
            }
        }
    }
    for (counter, row) in rows.iter_mut() {
        let Some((id, kind)) = counter.rsplit_once(':') else {
            continue;
        };
        let path = format!("/api/v1/analytics/stats/{id}/{kind}?period=day");
        row.total = get(door, "GET", &path, "").await["total"].as_i64();
    }
}

async fn get(door: &mut Door, method: &str, path: &str, body: &str) -> Value {
    let answer = door.ask(method, path, None, body).await;
    let answer = answer.unwrap_or_else(|why| panic!("{path}: {why}"));
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.body
}

fn ranked(answer: &Value, counter: &str) -> Option<i64> {
    let mut places = answer["data"]["counters"].as_array().into_iter().flatten();
    places.find(|place| name(place) == counter)?["value"].as_i64()
}

fn name(found: &Value) -> String {
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    format!("{}:{}", text("resource_id"), text("counter_type"))
}

/// The tool that users have for the same question.
async fn audit(mesh: &Mesh) -> Result<(), String> {
    let ended = Program::new("highpress-counter")
        .args(["audit", "--store", &format!("redis://{}", mesh.redis)])
        .args(["--events", &format!("kafka://{}/{TOPIC}", mesh.kafka)])
        .args(["--analytics", &mesh.analytics().to_string()])
        .run()
        .await;
    if ended.status.success() {
        Ok(())
    } else {
        Err(format!("highpress-counter audit:\n{}", ended.output))
    }
}

impl Row {
    /// What was acknowledged, added up.
    pub(crate) fn sum(&self) -> i64 {
        self.sent.acknowledged.iter().map(|event| event.delta).sum()
    }

    /// Where it does not agree.
    pub(crate) fn differences(&self) -> impl Iterator<Item = String> {
        let (sum, count, unknown) = (self.sum(), self.count, self.sent.unknown);
        let (acknowledged, events) = (
            self.sent.acknowledged.len() as u64,
            self.events.len() as u64,
        );
        let told: i64 = self.events.iter().map(|event| event.delta).sum();
        // Those without a key add 1 each.
        let most = sum + unknown.cast_signed();
        let mut missing = self.sent.acknowledged.clone();
        missing.sort_unstable();
        let mut there = self.events.clone();
        there.sort_unstable();
        missing.retain(|event| match there.binary_search(event) {
            Ok(at) => {
                there.remove(at);
                false
            }
            Err(_) => true,
        });
        let says = |what: &str, value: Option<i64>| {
            let value = value.unwrap_or_default();
            (value != count).then(|| format!("count {count}, {what} {value}"))
        };
        [
            (count < sum || count > most).then(|| {
                format!("{sum} acknowledged, {unknown} unknown, but the count is {count}")
            }),
            (events < acknowledged || events > acknowledged + unknown).then(|| {
                format!("{acknowledged} increments, {unknown} unknown, but {events} events")
            }),
            says("its events add up to", Some(told)),
            says(
                "the last event says",
                self.events.last().map(|event| event.new_value),
            ),
            says("in the ranking of all time", self.all),
            says("in the ranking of the day", self.day),
            says("the day's series adds up to", self.total),
            (!missing.is_empty())
                .then(|| format!("acknowledged, and no event says so: {missing:?}")),
        ]
        .into_iter()
        .flatten()
    }
}

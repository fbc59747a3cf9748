//! Clients that increment through the gateways.
//!
//! Most have a key for each increment and repeat it, at either gateway, until it is answered; some of what was answered they send
//! again, some they send to both gateways at once. Two have no keys and never repeat anything: what the gateway repeats for
//! them must not count twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use testkit::topic::Event;
use testkit::wait::{PATIENCE, eventually, within};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Plan;
use crate::client::{Answer, Door};

const PATH: &str = "/api/v1/counter/increment";
/// The types of the counters of those with keys, and of those without.
pub(crate) const KEYED: &str = "keyed";
pub(crate) const UNKEYED: &str = "unkeyed";
const UNKEYED_CLIENTS: u32 = 2;
/// The longest that an increment may take to be answered when nothing is in the way any more.
const AT_LAST: Duration = Duration::from_secs(60);

/// What is known of the increments of one counter.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Acknowledged ones, each with the count that was told.
    pub(crate) acknowledged: Vec<Event>,
    /// Those whose outcome nobody knows.
    pub(crate) unknown: u64,
}

/// What all clients did.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) counters: BTreeMap<String, Sent>,
    pub(crate) tries: u64,
    /// Answers that were those of an earlier try.
    pub(crate) replayed: u64,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

/// Clients at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Account>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

struct Client {
    name: String,
    /// Of what is sent: by the seed alone.
    random: fastrand::Rng,
    /// Of what depends on answers: where a repeat goes, and when.
    chance: fastrand::Rng,
    counters: u32,
    pause: Duration,
    doors: Vec<Door>,
    account: Account,
    shared: Arc<Shared>,
}

impl Load {
    pub(crate) fn start(plan: &Plan, fronts: [SocketAddr; 2]) -> Self {
        let shared = Arc::<Shared>::default();
        let mut clients = JoinSet::new();
        for number in 0..plan.clients + UNKEYED_CLIENTS {
            let seed = plan.seed.wrapping_mul(1000) + u64::from(number);
            let client = Client {
                name: format!("{}-{number}", plan.seed),
                random: fastrand::Rng::with_seed(seed),
                chance: fastrand::Rng::with_seed(!seed),
                counters: plan.counters,
                pause: plan.pause,
                doors: fronts.map(Door::new).into(),
                account: Account::default(),
                shared: shared.clone(),
            };
            if number < plan.clients {
                clients.spawn(client.with_keys());
            } else {
                clients.spawn(client.without_keys());
            }
        }
        Self { shared, clients }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Relaxed)
    }

    /// Waits until so many more are answered that nothing can be stuck.
    pub(crate) async fn goes_on(&self) {
        let wanted = self.acknowledged() + 200;
        eventually("the load to go on", PATIENCE * 3, async || {
            match self.acknowledged() {
                enough if enough >= wanted => Ok(()),
                few => Err(format!("{few} of {wanted} acknowledged increments")),
            }
        })
        .await;
    }

    /// Sends no more, and waits for what is under way.
    pub(crate) async fn finish(self) -> Account {
        self.shared.stop.store(true, Relaxed);
        let accounts = within(
            "every increment to be answered",
            AT_LAST,
            self.clients.join_all(),
        );
        let mut all = Account::default();
        for account in accounts.await {
            all.tries += account.tries;
            all.replayed += account.replayed;
            all.wrong.extend(account.wrong);
            for (counter, sent) in account.counters {
                let sum = all.counters.entry(counter).or_default();
                sum.acknowledged.extend(sent.acknowledged);
                sum.unknown += sent.unknown;
            }
        }
        all
    }
}

impl Client {
    async fn with_keys(mut self) -> Account {
        for n in 0_u64.. {
            if self.shared.stop.load(Relaxed) {
                break;
            }
            // One counter is much hotter than the others.
            let hot = self.random.u8(..3) == 0;
            let counter = if hot {
                0
            } else {
                self.random.u32(..self.counters)
            };
            let delta = [1, 1, 1, 2, 5, -1, -3][self.random.usize(..7)];
            let both = self.random.u8(..20) == 0;
            let again = self.random.u8(..20) == 0;
            let body = body(counter, KEYED, delta);
            let key = format!("{}-{n}", self.name);
            let told = if both {
                self.at_both(&key, &body).await
            } else {
                None
            };
            let told = match told {
                Some(told) => told,
                None => self.until_answered(&key, &body).await,
            };
            if again {
                self.expect_the_same(&key, &body, told).await;
            }
            let counter = self
                .account
                .counters
                .entry(named(counter, KEYED))
                .or_default();
            counter.acknowledged.push(Event {
                delta,
                new_value: told,
            });
            self.shared.acknowledged.fetch_add(1, Relaxed);
            sleep(self.pause).await;
        }
        self.account
    }

    async fn without_keys(mut self) -> Account {
        while !self.shared.stop.load(Relaxed) {
            let counter = self.random.u32(..self.counters.min(3));
            let door = self.chance.usize(..self.doors.len());
            self.account.tries += 1;
            let answer = self.doors[door]
                .ask("POST", PATH, None, &body(counter, UNKEYED, 1))
                .await;
            let told = answer.as_ref().ok().and_then(value);
            self.judge(&answer);
            let counter = self
                .account
                .counters
                .entry(named(counter, UNKEYED))
                .or_default();
            match told {
                Some(new_value) => {
                    counter.acknowledged.push(Event {
                        delta: 1,
                        new_value,
                    });
                    self.shared.acknowledged.fetch_add(1, Relaxed);
                }
                None => counter.unknown += 1,
            }
            sleep(self.pause).await;
        }
        self.account
    }

    /// Sends it to both gateways at once; what was told, if anything was.
    async fn at_both(&mut self, key: &str, body: &str) -> Option<i64> {
        self.account.tries += 2;
        let [one, other] = self.doors.as_mut_slice() else {
            return None;
        };
        let (one, other) = tokio::join!(
            one.ask("POST", PATH, Some(key), body),
            other.ask("POST", PATH, Some(key), body)
        );
        self.judge(&one);
        self.judge(&other);
        let values = [&one, &other].map(|answer| answer.as_ref().ok().and_then(value));
        if let [Some(a), Some(b)] = values
            && a != b
        {
            let wrong = format!("{key} was answered with {a} and with {b}");
            self.account.wrong.push(wrong);
        }
        values.into_iter().flatten().next()
    }

    /// Repeats it under its key until it is acknowledged; the count that was told.
    async fn until_answered(&mut self, key: &str, body: &str) -> i64 {
        loop {
            let door = self.chance.usize(..self.doors.len());
            self.account.tries += 1;
            let answer = self.doors[door].ask("POST", PATH, Some(key), body).await;
            self.judge(&answer);
            if let Some(told) = answer.ok().as_ref().and_then(value) {
                return told;
            }
            sleep(Duration::from_millis(self.chance.u64(10..150))).await;
        }
    }

    /// A repeat of what was answered has to have the first answer, and to say so.
    async fn expect_the_same(&mut self, key: &str, body: &str, told: i64) {
        let door = self.chance.usize(..self.doors.len());
        self.account.tries += 1;
        let answer = self.doors[door].ask("POST", PATH, Some(key), body).await;
        self.judge(&answer);
        if let Ok(answer) = answer
            && answer.status == 200
            && (value(&answer) != Some(told) || !answer.replayed)
        {
            let wrong = format!("{key} was answered with {told}, and then with {answer:?}");
            self.account.wrong.push(wrong);
        }
    }

    /// Nothing is wrong with any request, so no answer may say so.
    fn judge(&mut self, answer: &Result<Answer, String>) {
        if let Ok(answer) = answer {
            self.account.replayed += u64::from(answer.replayed);
            let good = answer.status == 200 && value(answer).is_some();
            if !good && answer.status < 500 {
                self.account.wrong.push(format!("{answer:?}"));
            }
        }
    }
}

fn value(answer: &Answer) -> Option<i64> {
    let value = answer.body["data"]["current_value"].as_i64();
    value.filter(|_| answer.status == 200)
}

fn body(counter: u32, kind: &str, delta: i64) -> String {
    json!({"resource_id": resource(counter), "counter_type": kind, "delta": delta}).to_string()
}

fn resource(counter: u32) -> String {
    format!("c{counter}")
}

fn named(counter: u32, kind: &str) -> String {
    format!("{}:{kind}", resource(counter))
}

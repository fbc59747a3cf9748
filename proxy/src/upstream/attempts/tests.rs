//! The loop of tries under paused time, over an exchange that does as a script says: no socket, no luck.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::time::Duration;

use mesh_config::model as config;
use parking_lot::Mutex;
use proptest::prelude::*;
use resilience::retry::Pushback;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::*;
use crate::upstream::{Aim, CallPolicy, NoRetry, Repeats, RetryReason, Terms, Upstreams};

const MS: Duration = Duration::from_millis(1);

/// What the endpoint of one try does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// Answers this gRPC code, after so many milliseconds.
    Answers(u32, u64),
    /// The same, and asks to be left alone for so many milliseconds; a negative number is for ever.
    PushesBack(i64),
    /// Never answers.
    Hangs,
    /// Breaks off.
    Breaks,
    /// Turns the stream away.
    Refuses,
    /// Takes no connection.
    CannotConnect,
    /// Closes the connection before the call is on it.
    Closes,
}

/// A try that was made.
#[derive(Debug, Clone)]
struct Made {
    at: Instant,
    endpoint: Arc<str>,
    does: Does,
    until: Instant,
}

struct Scripted<'a> {
    terms: Terms<'a>,
    script: Mutex<VecDeque<Does>>,
    /// What comes after the script.
    then: Does,
    made: Mutex<Vec<Made>>,
    dropped: Mutex<usize>,
}

/// Counts the tries that were given up.
struct Going<'a>(&'a Mutex<usize>, bool);

impl Drop for Going<'_> {
    fn drop(&mut self) {
        *self.0.lock() += usize::from(!self.1);
    }
}

type Reply = (u32, Option<Pushback>);

impl Exchange for Scripted<'_> {
    type Reply = Reply;

    fn terms(&self) -> &Terms<'_> {
        &self.terms
    }

    async fn once(
        &self,
        attempt: &mut Attempt,
        _: usize,
        until: Instant,
    ) -> Result<Reply, TryError> {
        let (endpoint, departure) = attempt.set_out();
        let endpoint = Arc::clone(endpoint.name());
        let does = self.script.lock().pop_front().unwrap_or(self.then);
        self.made.lock().push(Made {
            at: Instant::now(),
            endpoint: Arc::clone(&endpoint),
            does,
            until,
        });
        departure.sent = !matches!(does, Does::CannotConnect);
        let mut going = Going(&self.dropped, false);
        let result = match does {
            Does::Answers(code, after) => {
                sleep(MS * u32::try_from(after).unwrap()).await;
                Ok((code, None))
            }
            Does::PushesBack(wait) => {
                Ok((14, Some(Pushback::of_grpc(wait.to_string().as_bytes()))))
            }
            Does::Hangs => std::future::pending().await,
            Does::Breaks => Err(TryError::BrokeOff(CallError::ConnectionLost("cut".into()))),
            Does::Refuses => Err(TryError::TurnedAway(CallError::Refused { endpoint })),
            Does::CannotConnect => Err(TryError::TurnedAway(connect(endpoint))),
            Does::Closes => Err(TryError::NotSent(connect(endpoint))),
        };
        going.1 = true;
        result
    }

    fn outcome((code, _): &Reply) -> Outcome {
        match code {
            0 => Outcome::Ok,
            5 => Outcome::CallerError,
            _ => Outcome::BackendError,
        }
    }

    fn reason((code, _): &Reply) -> RetryReason {
        RetryReason::Code(*code)
    }

    fn pushback((_, pushback): &Reply) -> Option<Pushback> {
        *pushback
    }

    fn not_tried_again(reply: Reply, _: &NoRetry) -> Reply {
        reply
    }
}

fn connect(endpoint: Arc<str>) -> CallError {
    let why = "refused".into();
    CallError::Connect { endpoint, why }
}

/// A cluster of so many endpoints, and what a route says.
pub(crate) fn mesh(
    endpoints: usize,
    cluster: &str,
    route: &str,
) -> (Upstreams, Arc<Cluster>, config::Route) {
    let addresses: Vec<_> = (1..=endpoints)
        .map(|port| format!("\"127.0.0.1:{port}\""))
        .collect();
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0}}]\n\
         descriptors: [builtin]\n\
         clusters: [{{name: c, protocol: grpc, endpoints: {{static: [{}]}}, {cluster}}}]\n\
         routes: [{{name: r, transcode: {{services: [counter.CounterService]}}, to: c, {route}}}]\n",
        addresses.join(", ")
    );
    let snapshot = mesh_config::parse(&text, Path::new("/"), "test.yaml");
    let snapshot = snapshot.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let upstreams = Upstreams::new(1, Handle::current());
    upstreams.apply(&snapshot.clusters);
    let cluster = upstreams.get("c").unwrap();
    let route = config::Route::clone(&snapshot.routes[0]);
    (upstreams, cluster, route)
}

const PLENTY: &str = "retry_budget: {ratio: 100%, min_per_second: 1000}";

struct Ran {
    result: Result<Reply, CallError>,
    made: Vec<Made>,
    dropped: usize,
    took: Duration,
}

impl Ran {
    /// When each try was made, in milliseconds from the start.
    fn times(&self) -> Vec<u128> {
        let start = self.made[0].at;
        self.made
            .iter()
            .map(|made| (made.at - start).as_millis())
            .collect()
    }

    fn code(&self) -> Option<u32> {
        self.result.as_ref().ok().map(|(code, _)| *code)
    }
}

async fn run_in(
    cluster: &Arc<Cluster>,
    policy: &CallPolicy,
    repeatable: bool,
    deadline: Duration,
    (script, then): (&[Does], Does),
) -> Ran {
    let start = Instant::now();
    let scripted = Scripted {
        terms: Terms {
            policy,
            retry: policy.retry.as_ref(),
            repeatable,
            deadline: start + deadline,
            impatient: false,
            elsewhere: false,
            copy: false,
            aim: Aim::default(),
        },
        script: Mutex::new(script.iter().copied().collect()),
        then,
        made: Mutex::default(),
        dropped: Mutex::default(),
    };
    let result = run(cluster, 0, &scripted).await;
    Ran {
        result,
        took: start.elapsed(),
        dropped: scripted.dropped.into_inner(),
        made: scripted.made.into_inner(),
    }
}

/// Runs a call that is safe to repeat, for two seconds at most.
async fn call(endpoints: usize, cluster: &str, route: &str, script: &[Does], then: Does) -> Ran {
    let (_upstreams, cluster, route) = mesh(endpoints, cluster, route);
    let policy = policy(&route, &cluster);
    run_in(&cluster, &policy, true, 2000 * MS, (script, then)).await
}

fn policy(route: &config::Route, cluster: &Arc<Cluster>) -> CallPolicy {
    let policies = (route.retry.as_ref(), route.hedge);
    CallPolicy::new(policies, Repeats::default(), "r", std::iter::once(cluster))
}

#[tokio::test(start_paused = true)]
async fn waits_grow_and_are_jittered() {
    let route = "retry: {attempts: 4, backoff: {base: 100ms, max: 300ms}}";
    let mut waits = vec![Vec::new(); 3];
    for _ in 0..200 {
        let ran = call(1, PLENTY, route, &[], Does::Answers(14, 0)).await;
        let times = ran.times();
        assert_eq!((times.len(), ran.code()), (4, Some(14)));
        for (index, pair) in times.windows(2).enumerate() {
            waits[index].push(pair[1] - pair[0]);
        }
    }
    for (waits, most) in waits.iter().zip([100, 200, 300]) {
        let longest = *waits.iter().max().unwrap();
        // A timer's granularity is a millisecond.
        assert!(
            longest <= most + 1 && longest > most * 3 / 4,
            "{longest} of {most}"
        );
        assert!(*waits.iter().min().unwrap() < most / 4);
    }
}

#[tokio::test(start_paused = true)]
async fn pushback_replaces_the_wait_and_a_negative_one_ends_it() {
    let route = "retry: {attempts: 3}";
    let ran = call(
        2,
        PLENTY,
        route,
        &[Does::PushesBack(700)],
        Does::Answers(0, 0),
    )
    .await;
    assert_eq!((ran.times(), ran.code()), (vec![0, 700], Some(0)));
    for never in [-1, 2500] {
        let ran = call(
            2,
            PLENTY,
            route,
            &[Does::PushesBack(never)],
            Does::Answers(0, 0),
        )
        .await;
        assert_eq!((ran.made.len(), ran.code()), (1, Some(14)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_has_the_time_of_a_try_or_what_is_left() {
    let route = "retry: {attempts: 9, on: [timeout], per_try_timeout: 900ms, backoff: {base: 1ms, max: 1ms}}";
    let ran = call(3, PLENTY, route, &[], Does::Hangs).await;
    assert!(
        matches!(ran.result, Err(CallError::DeadlineExceeded)),
        "{:?}",
        ran.result
    );
    assert_eq!((ran.made.len(), ran.dropped, ran.took), (3, 3, 2000 * MS));
    let times: Vec<_> = ran
        .made
        .iter()
        .map(|made| (made.until - made.at).as_millis())
        .collect();
    assert_eq!(times[..2], [900, 900]);
    assert!((198..=200).contains(&times[2]), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_comes_after_its_time_and_the_loser_is_dropped() {
    let route = "hedge: {after: 80ms, max: 2}";
    let script = [Does::Hangs, Does::Answers(14, 30), Does::Answers(0, 10)];
    let ran = call(3, PLENTY, route, &script, Does::Hangs).await;
    // The second one fails at 110 ms and does not win; the third comes at 160 ms.
    assert_eq!((ran.times(), ran.code()), (vec![0, 80, 160], Some(0)));
    assert_eq!((ran.dropped, ran.took), (1, 170 * MS));
    let endpoints: HashSet<_> = ran.made.iter().map(|made| &made.endpoint).collect();
    assert_eq!(endpoints.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_caller_s_own_error_wins_and_one_endpoint_has_no_company() {
    let route = "hedge: {after: 80ms, max: 5}";
    let script = [Does::Hangs, Does::Answers(5, 0)];
    let ran = call(2, PLENTY, route, &script, Does::Hangs).await;
    assert_eq!((ran.times(), ran.code()), (vec![0, 80], Some(5)));
    let ran = call(1, PLENTY, route, &[Does::Answers(0, 500)], Does::Hangs).await;
    assert_eq!((ran.made.len(), ran.took), (1, 500 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_hedged_call_that_fails_altogether_is_tried_again() {
    let route = "hedge: {after: 10ms}, retry: {attempts: 2, backoff: {base: 1ms, max: 1ms}}";
    let script = [
        Does::Answers(14, 50),
        Does::Answers(14, 60),
        Does::Answers(0, 0),
    ];
    let ran = call(2, PLENTY, route, &script, Does::Hangs).await;
    assert_eq!((ran.made.len(), ran.code()), (3, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn limits_retries_counts_what_is_under_way() {
    let cluster = format!("{PLENTY}, limits: {{retries: 1}}");
    let (_upstreams, cluster, route) = mesh(4, &cluster, "hedge: {after: 10ms, max: 3}");
    let policy = policy(&route, &cluster);
    let ran = run_in(&cluster, &policy, true, 100 * MS, (&[], Does::Hangs)).await;
    assert_eq!((ran.made.len(), cluster.retries_refused()), (2, (0, 1)));
    // Given back: the next call has its own.
    let ran = run_in(&cluster, &policy, true, 100 * MS, (&[], Does::Hangs)).await;
    assert_eq!(ran.made.len(), 2);
    assert!(cluster.may_retry(Instant::now()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_retries_of_many_calls() {
    let cluster = "retry_budget: {ratio: 10%, min_per_second: 2}";
    let (_upstreams, cluster, route) = mesh(
        2,
        cluster,
        "retry: {attempts: 5, backoff: {base: 1ms, max: 1ms}}",
    );
    let policy = policy(&route, &cluster);
    let mut made = 0;
    for _ in 0..1000 {
        let ran = run_in(
            &cluster,
            &policy,
            true,
            2000 * MS,
            (&[], Does::Answers(14, 4)),
        )
        .await;
        made += ran.made.len();
    }
    // Some five seconds: 1000 first tries, a tenth of them, and two a second.
    let most = 1000 + 100 + 2 * 7;
    assert!(
        (1090..=most).contains(&made),
        "{made} tries, {most} allowed"
    );
}

fn any_does() -> impl Strategy<Value = Does> {
    prop_oneof![
        (
            prop_oneof![Just(0u32), Just(5), Just(14), Just(13)],
            0u64..400
        )
            .prop_map(|(code, after)| Does::Answers(code, after)),
        (-1i64..300).prop_map(Does::PushesBack),
        Just(Does::Hangs),
        Just(Does::Breaks),
        Just(Does::Refuses),
        Just(Does::CannotConnect),
        Just(Does::Closes),
    ]
}

impl Does {
    fn may_have_been_executed(self) -> bool {
        !matches!(self, Self::Refuses | Self::CannotConnect | Self::Closes)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever endpoints do: no unsafe repetition, no more tries than allowed, none after the deadline, nobody
    /// asked twice while another has not been, and an outcome that is not known is never told as known.
    #[test]
    fn the_rules_hold_whatever_endpoints_do(
        endpoints in 1usize..5,
        script in proptest::collection::vec(any_does(), 0..12),
        then in any_does(),
        repeatable: bool,
        attempts in 1usize..6,
        hedges in 0usize..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let ran = runtime.block_on(async {
            let hedge = if hedges > 0 { format!("hedge: {{after: 50ms, max: {hedges}}},") } else { String::new() };
            let on = "[connect, refused_stream, reset, timeout, unavailable, internal]";
            let route = format!("{hedge} retry: {{attempts: {attempts}, on: {on}, per_try_timeout: 300ms}}");
            let (_upstreams, cluster, route) = mesh(endpoints, PLENTY, &route);
            let policy = policy(&route, &cluster);
            run_in(&cluster, &policy, repeatable, 1500 * MS, (&script, then)).await
        });
        let executed = ran.made.iter().filter(|made| made.does.may_have_been_executed()).count();
        if repeatable {
            prop_assert!(executed <= attempts + hedges, "{:?}", ran.made);
        } else {
            prop_assert!(executed <= 1, "{:?}", ran.made);
        }
        prop_assert!(ran.took <= 1501 * MS);
        let start = ran.made[0].at;
        prop_assert!(ran.made.iter().all(|made| made.at - start < 1500 * MS));
        let first_round: HashSet<_> = ran.made.iter().take(endpoints).map(|made| &made.endpoint).collect();
        prop_assert_eq!(first_round.len(), ran.made.len().min(endpoints), "{:?}", ran.made);
        match &ran.result {
            Err(error) if error.never_executed() => prop_assert_eq!(executed, 0, "{}: {:?}", error, ran.made),
            Err(_) => {}
            Ok((code, _)) => prop_assert!(executed > 0, "{}", code),
        }
        // A bound for rounds of what is free: each endpoint a few times for each try that is not.
        prop_assert!(ran.made.len() <= (attempts + hedges + 3) * (endpoints + 2), "{:?}", ran.made);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_in_little_memory() {
    let (_upstreams, cluster, _) = mesh(1, PLENTY, "timeout: 1s");
    let method = crate::upstream::Method::new("/a.B/C").unwrap();
    let call = crate::upstream::Call {
        method: &method,
        metadata: &[],
        message: bytes::Bytes::new(),
        coding: None,
        max_response: 1,
        terms: Terms::until(Instant::now()),
    };
    let size = size_of_val(&run(&cluster, 0, &call));
    assert!(size < 3400, "{size} bytes");
}

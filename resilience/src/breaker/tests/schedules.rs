//! Any schedule of calls against a model that keeps everything, and threads against each other.

use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

use proptest::prelude::*;

use super::*;

/// Steps of the model are slices of the window, so that it knows exactly what has left it.
const SLICE: Duration = Duration::from_millis(500);
const SLICES_IN_WINDOW: u32 = 20;

#[derive(Debug, Clone)]
enum Step {
    Wait(u32),
    /// So many calls start.
    Start(u8),
    /// One of those under way ends; `slow` ones took as long as that is.
    Finish {
        which: prop::sample::Index,
        verdict: Verdict,
        slow: bool,
    },
    /// One of those under way is dropped.
    Drop(prop::sample::Index),
    /// So many calls start and end alike.
    Calls(u8, Verdict),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        2 => Just(Verdict::Success),
        3 => Just(Verdict::Failure),
        1 => Just(Verdict::Neutral)
    ];
    let wait = prop_oneof![4 => 1u32..4, 1 => 5u32..30];
    let step = prop_oneof![
        2 => wait.prop_map(Step::Wait),
        2 => (1u8..6).prop_map(Step::Start),
        4 => (any::<prop::sample::Index>(), verdict.clone(), any::<bool>())
            .prop_map(|(which, verdict, slow)| Step::Finish { which, verdict, slow }),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        2 => (1u8..12, verdict).prop_map(|(calls, verdict)| Step::Calls(calls, verdict)),
    ];
    proptest::collection::vec(step, 1..200)
}

/// What a breaker should do, kept as lists.
#[derive(Debug)]
struct Model {
    settings: Settings,
    /// Slices since the start.
    now: u32,
    state: ModelState,
    /// Counts changes of state.
    period: u32,
    rejections: u32,
    under_way: Vec<(u32, Admission)>,
}

#[derive(Debug)]
enum ModelState {
    /// When, judged, failed, slow.
    Admit(Vec<(u32, bool, bool, bool)>),
    Reject {
        until: u32,
    },
    Probe {
        answered: u32,
        slow: u32,
    },
}

impl Model {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: 0,
            state: ModelState::Admit(Vec::new()),
            period: 0,
            rejections: 0,
            under_way: Vec::new(),
        }
    }

    fn out(&self) -> u32 {
        let probes = self.under_way.iter().filter(|(period, admission)| {
            *period == self.period && matches!(admission, Admission::Probe(_))
        });
        u32::try_from(probes.count()).unwrap()
    }

    /// The state that the next call meets, entered if a hold is over.
    fn admits(&mut self) -> State {
        if let ModelState::Reject { until } = self.state {
            if self.now < until {
                return State::Reject;
            }
            self.period += 1;
            self.state = ModelState::Probe {
                answered: 0,
                slow: 0,
            };
        }
        match self.state {
            ModelState::Probe { answered, .. }
                if answered + self.out() == self.settings.probes.get() =>
            {
                State::Reject
            }
            ModelState::Probe { .. } => State::Probe,
            _ => State::Admit,
        }
    }

    fn reject(&mut self) -> Option<Duration> {
        let hold = self.settings.hold * 2u32.pow(self.rejections.min(10));
        let hold = hold.min(self.settings.max_hold);
        self.rejections += 1;
        self.period += 1;
        let slices = u32::try_from(hold.as_millis() / SLICE.as_millis()).unwrap();
        let until = self.now + slices;
        self.state = ModelState::Reject { until };
        Some(hold)
    }

    /// Counts a result of this period; how long it makes the breaker reject.
    fn finish(&mut self, verdict: Verdict, is_slow: bool) -> Option<Duration> {
        if verdict == Verdict::Neutral && !is_slow {
            return None;
        }
        let failed = verdict == Verdict::Failure;
        let (now, settings) = (self.now, self.settings);
        match &mut self.state {
            ModelState::Admit(calls) => {
                calls.push((now, verdict != Verdict::Neutral, failed, is_slow));
                calls.retain(|(at, ..)| at + SLICES_IN_WINDOW > now);
                let too_many = |part: usize, whole: usize, ratio: f64| {
                    part > 0
                        && whole >= settings.min_requests.get() as usize
                        && part as f64 >= ratio * whole as f64
                };
                let judged = calls.iter().filter(|call| call.1).count();
                let failed = calls.iter().filter(|call| call.2).count();
                let slow = calls.iter().filter(|call| call.3).count();
                let failing = too_many(failed, judged, settings.failure_ratio);
                let trips = failing || too_many(slow, calls.len(), settings.slow_ratio);
                trips.then(|| self.reject()).flatten()
            }
            ModelState::Reject { .. } => panic!("nothing of this period can be under way"),
            ModelState::Probe { answered, slow } => {
                *answered += 1;
                *slow += u32::from(is_slow);
                let all = *answered == settings.probes.get();
                let too_slow = f64::from(*slow) >= settings.slow_ratio * f64::from(*answered);
                if failed || (all && too_slow) {
                    return self.reject();
                }
                if all {
                    self.period += 1;
                    self.rejections = 0;
                    self.state = ModelState::Admit(Vec::new());
                }
                None
            }
        }
    }
}

/// A breaker and its model, side by side.
struct Pair {
    breaker: Arc<Breaker>,
    model: Model,
    start: Instant,
}

impl Pair {
    fn new(settings: Settings) -> Self {
        let breaker = Arc::new(Breaker::new(settings));
        let now = Instant::now();
        let into_slice = breaker.clock.nanos(now) % nanos(SLICE);
        Self {
            breaker,
            model: Model::new(settings),
            start: now + SLICE - Duration::from_nanos(into_slice),
        }
    }

    fn now(&self) -> Instant {
        self.start + SLICE * self.model.now
    }

    fn start(&mut self) -> Result<(), TestCaseError> {
        let now = self.now();
        let expected = self.model.admits();
        prop_assert_eq!(self.breaker.would_admit(now), expected != State::Reject);
        let admission = self.breaker.admit(now);
        let got = match admission {
            Admission::Admit(_) => State::Admit,
            Admission::Probe(_) => State::Probe,
            Admission::Reject => State::Reject,
        };
        prop_assert_eq!(got, expected);
        if got != State::Reject {
            self.model.under_way.push((self.model.period, admission));
        }
        Ok(())
    }

    fn finish(&mut self, which: usize, verdict: Verdict, slow: bool) -> Result<(), TestCaseError> {
        let (period, admission) = self.model.under_way.swap_remove(which);
        let took = if slow { SECOND } else { FAST };
        let change = self.breaker.record(admission, verdict, took, self.now());
        let hold = match change {
            Some(Change::Rejects { hold, .. }) => Some(hold),
            _ => None,
        };
        let expected = (period == self.model.period)
            .then(|| self.model.finish(verdict, slow))
            .flatten();
        prop_assert_eq!(hold, expected);
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Wait(slices) => self.model.now += slices,
            Step::Start(calls) => (0..calls).try_for_each(|_| self.start())?,
            Step::Finish {
                which,
                verdict,
                slow,
            } if !self.model.under_way.is_empty() => {
                let which = which.index(self.model.under_way.len());
                self.finish(which, verdict, slow)?;
            }
            Step::Drop(which) if !self.model.under_way.is_empty() => {
                let which = which.index(self.model.under_way.len());
                drop(self.model.under_way.swap_remove(which));
            }
            Step::Finish { .. } | Step::Drop(_) => {}
            Step::Calls(calls, verdict) => {
                for _ in 0..calls {
                    let before = self.model.under_way.len();
                    self.start()?;
                    if self.model.under_way.len() > before {
                        self.finish(before, verdict, false)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn agrees(&self) -> Result<(), TestCaseError> {
        let (now, model) = (self.now(), &self.model);
        let (state, left) = match model.state {
            ModelState::Admit(_) => (State::Admit, Duration::ZERO),
            ModelState::Reject { until } if until > model.now => {
                (State::Reject, SLICE * (until - model.now))
            }
            _ => (State::Probe, Duration::ZERO),
        };
        prop_assert_eq!(self.breaker.state(now), state);
        prop_assert_eq!(self.breaker.opens_in(now), left);
        prop_assert!(model.out() <= model.settings.probes.get());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// It admits exactly what the model admits and rejects for exactly as long: nothing while the hold lasts, at most
    /// `probes` at once, what is dropped is given back, late results are ignored, and the window slides.
    #[test]
    fn it_does_what_the_model_does(
        steps in steps(),
        min_requests in 1u32..8,
        probes in 1u32..5,
        failure_ratio in prop_oneof![Just(0.25), Just(0.5), Just(1.0)],
    ) {
        let mut pair = Pair::new(Settings {
            min_requests: NonZeroU32::new(min_requests).unwrap(),
            probes: NonZeroU32::new(probes).unwrap(),
            failure_ratio,
            slow_ratio: 0.75,
            hold: 2 * SECOND,
            max_hold: 10 * SECOND,
            ..settings()
        });
        for step in steps {
            pair.step(step)?;
            pair.agrees()?;
        }
    }
}

#[test]
fn threads_trip_it_once() {
    let now = Instant::now();
    for _ in 0..20 {
        let (breaker, together) = (breaker(), Barrier::new(4));
        let changes = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..50 {
                        let change = call(&breaker, Verdict::Failure, FAST, now);
                        changes.fetch_add(usize::from(change.is_some()), SeqCst);
                    }
                });
            }
        });
        assert_eq!(changes.into_inner(), 1);
        assert_eq!(breaker.opens_in(now), 5 * SECOND);
    }
}

#[test]
fn threads_share_the_probes_and_drop_them_without_a_loss() {
    let start = Instant::now();
    let (breaker, together) = (rejecting(start), Barrier::new(4));
    let later = start + 5 * SECOND;
    let (out, probed) = (AtomicI64::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                together.wait();
                for _ in 0..2000 {
                    let admission = breaker.admit(later);
                    if matches!(admission, Admission::Reject) {
                        continue;
                    }
                    assert!(out.fetch_add(1, SeqCst) < 3, "more than three at once");
                    std::thread::yield_now();
                    out.fetch_sub(1, SeqCst);
                    probed.fetch_add(1, SeqCst);
                    drop(admission);
                }
            });
        }
    });
    assert!(probed.into_inner() > 0);
    assert_eq!(breaker.state(later), State::Probe);
    let places: Vec<_> = (0..3).map(|_| probe(&breaker, later)).collect();
    assert!(rejects(&breaker, later));
    drop(places);
    assert_eq!(
        calls(&breaker, 3, Verdict::Success, later),
        Some(Change::Admits)
    );
}

#[test]
fn threads_make_exactly_as_many_probes_as_it_takes() {
    let start = Instant::now();
    let later = start + 5 * SECOND;
    for _ in 0..50 {
        let (breaker, together) = (rejecting(start), Barrier::new(4));
        let probed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..50 {
                        let admission = breaker.admit(later);
                        let is_probe = matches!(admission, Admission::Probe(_));
                        probed.fetch_add(usize::from(is_probe), SeqCst);
                        breaker.record(admission, Verdict::Success, FAST, later);
                    }
                });
            }
        });
        assert_eq!(probed.into_inner(), 3);
        assert_eq!(breaker.state(later), State::Admit);
    }
}

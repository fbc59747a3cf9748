//! Mirrors: a copy of a route's requests goes to another cluster as well, to try it with real traffic. The
//! caller never waits for a copy and never sees its outcome; if the route says so, the copy's answer is compared
//! with the caller's, which is how a new backend is shown to say what the old one says.
//!
//! Refused: copies of requests that change something (unless the route says `unsafe`), copies without bounds.

mod capture;
mod compare;
mod report;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use mesh_config::model::{self, Share};
use tokio::sync::oneshot;

use crate::edge::{Answer, Head};
use crate::error::GatewayError;
use crate::refusals;
use crate::route_table::{Row, Target};
use crate::unary::{Call, Patience, Request};
use crate::upstream::{CallPolicy, Cluster};

pub(crate) use capture::Capture;
use compare::{Comparison, Seen};
pub(crate) use report::Mirrors;
use report::{Copied, Report, UnderWay};

/// What a backend knows a copy by.
pub(crate) const MARK: HeaderName = HeaderName::from_static("x-highpress-mirror");
/// Its value.
pub(crate) const MARKED: HeaderValue = HeaderValue::from_static("true");

/// Copies of one mirror under way at once; a mirror that is slower than that gets no more for now.
const MOST: usize = 256;
/// What shares are measured in.
const WHOLE: u32 = 1_000_000;
/// Bytes of the largest body that is copied.
const LARGEST: usize = 1 << 20;

/// What a route copies, and where to.
#[derive(Debug)]
pub(crate) struct Mirror {
    cluster: Arc<Cluster>,
    share: Share,
    unsafe_methods: bool,
    comparison: Option<Arc<Comparison>>,
    report: Arc<Report>,
}

/// A copy that may want to know what the caller was answered. Dropped unanswered, it compares nothing.
#[derive(Debug)]
pub(crate) struct Copy(Option<oneshot::Sender<Answered>>);

/// What the caller got.
#[derive(Debug)]
struct Answered {
    status: u16,
    body: Vec<u8>,
}

/// A request of its own, which outlives the one that it was copied from.
#[derive(Debug)]
struct Owned {
    worker: usize,
    call: Call,
    head: Head,
    body: Vec<u8>,
    /// What backends know the original by, if its caller gave it no id.
    id: Option<HeaderValue>,
}

// === impl Mirror ===

impl Mirror {
    /// What a route says, if its cluster is there.
    pub(crate) fn new(
        route: &model::Route,
        mirrors: &Mirrors,
        cluster: impl Fn(&str) -> Option<Arc<Cluster>>,
    ) -> Option<Self> {
        let mirror = route.mirror.as_ref()?;
        let cluster = cluster(mirror.cluster.as_str())?;
        let comparison = || Arc::new(Comparison::new(&mirror.ignore));
        Some(Self {
            report: mirrors.report(&route.name.as_str().into(), cluster.name()),
            cluster,
            share: mirror.share,
            unsafe_methods: mirror.unsafe_methods,
            comparison: mirror.compare.then(comparison),
        })
    }

    /// Whether a request with this method is to be copied.
    pub(crate) fn selects(&self, method: &Method) -> bool {
        let fits = method.is_safe() || self.unsafe_methods;
        fits && fastrand::u32(..WHOLE) < self.share.millionths()
    }

    /// Starts a copy of a request that is to be copied, and whose body is whole.
    pub(crate) fn copy(&self, request: &Request<'_>) -> Option<Copy> {
        if request.body.len() > LARGEST {
            self.report.copied(Copied::Dropped);
            return None;
        }
        self.send(Owned::of(request))
    }

    fn send(&self, copy: Owned) -> Option<Copy> {
        let under_way = self.report.start(MOST)?;
        let (tell, told) = match self.comparison.clone() {
            Some(comparison) => {
                let (tell, told) = oneshot::channel();
                (Some(tell), Some((comparison, told)))
            }
            None => (None, None),
        };
        tokio::spawn(run(copy, Arc::clone(&self.cluster), under_way, told));
        Some(Copy(tell))
    }
}

type Told = (Arc<Comparison>, oneshot::Receiver<Answered>);

/// Sends a copy, and compares its answer with the caller's if it is to be.
async fn run(owned: Owned, cluster: Arc<Cluster>, under_way: UnderWay, told: Option<Told>) {
    let report = under_way.report();
    let Some(answer) = owned.answer(&cluster).await else {
        return;
    };
    report.copied(match answer.failed {
        true => Copied::Failed,
        false => Copied::Answered,
    });
    let Some((comparison, told)) = told else {
        return;
    };
    // The caller's answer comes by its own deadline, which is the copy's too; without one there is an error.
    let Ok(answered) = told.await else {
        return;
    };
    let seen = |status, body| Seen { status, body };
    let differences = comparison.differences(
        seen(answered.status, &answered.body),
        seen(answer.answer.status, &answer.answer.body),
    );
    let head = &owned.head;
    report.found(head.method().as_str(), head.path(), differences);
}

/// What a route copies, for people.
pub(crate) fn describe(mirror: &model::Mirror) -> String {
    let (share, cluster) = (mirror.share, mirror.cluster.as_str());
    let which = match mirror.unsafe_methods {
        true => "requests",
        false => "requests with safe methods",
    };
    let compared = match mirror.compare {
        true => ", answers are compared",
        false => "",
    };
    format!("{share} of {which} to `{cluster}`{compared}")
}

// === impl Copy ===

impl Copy {
    /// The caller was answered so.
    pub(crate) fn answered(self, row: &Row, result: &Result<Answer, GatewayError>) {
        if !self.compares() {
            return;
        }
        match result {
            Ok(answer) => self.told(answer.status, answer.body.clone()),
            Err(error) => {
                let answer = refusals::worded(Some(row), false, error);
                self.told(answer.status, answer.body);
            }
        }
    }

    fn compares(&self) -> bool {
        self.0.is_some()
    }

    fn told(self, status: u16, body: Vec<u8>) {
        if let Some(tell) = self.0 {
            // The copy may be gone.
            let _ = tell.send(Answered { status, body });
        }
    }
}

/// What a mirror said, or what was made of its silence.
struct Mirrored {
    answer: Answer,
    failed: bool,
}

// === impl Owned ===

impl Owned {
    fn of(request: &Request<'_>) -> Self {
        Self {
            worker: request.worker,
            call: request.call.copied(),
            head: request.head.clone(),
            body: request.body.to_vec(),
            id: request.id.cloned(),
        }
    }

    fn row(&self) -> Option<&Row> {
        self.call.table.row(self.call.row)
    }

    /// What the cluster makes of the copy; none if the route has nothing to copy.
    async fn answer(&self, cluster: &Arc<Cluster>) -> Option<Mirrored> {
        let row = self.row()?;
        let policy = CallPolicy::default();
        let request = Request {
            worker: self.worker,
            call: &self.call,
            row,
            head: &self.head,
            body: &self.body,
            patience: Patience::of(row, &self.head),
            id: self.id.as_ref(),
            within: None,
            copy: Some(&policy),
        };
        let result = match &row.target {
            Target::Transcode(transcoded) => request.exchange(transcoded, cluster).await.0,
            Target::PassThrough => request.forward(&policy, cluster).await,
            Target::Stream(_)
            | Target::Grpc(_)
            | Target::Redirect(_)
            | Target::System { .. }
            | Target::Waiting { .. } => {
                return None;
            }
        };
        Some(match result {
            Ok(answer) => Mirrored {
                answer,
                failed: false,
            },
            Err(error) => Mirrored {
                failed: !matches!(error, GatewayError::Backend(_)),
                answer: refusals::worded(Some(row), false, &error),
            },
        })
    }
}

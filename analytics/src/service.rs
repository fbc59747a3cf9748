//! The gRPC service: checks a request, asks the state (on a thread that may wait for its lock) and the other instances, puts
//! their shares together.

use std::sync::Arc;
use std::time::Duration;

use proto::analytics::analytics_service_server::AnalyticsService;
use proto::analytics::peers_server::Peers as PeersService;
use proto::analytics::{
    GetStatusRequest, GetStatusResponse, Point, RankedCounter, SharesRequest, SharesResponse,
    StatsRequest, StatsResponse, TimeRange, TopCountersRequest, TopCountersResponse,
};
use service_kit::Drain;
use service_kit::metrics::GrpcMetrics;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use crate::gather::{self, Gathered, to_i64};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::query::{self, Invalid};
use crate::state::{Over, Place, Resolution, Seconds, Series, SeriesQuery, Share, Top, TopQuery};
use crate::status::{ServiceStatus, unix_seconds};
use crate::tally::nothing;

/// The service's name in the descriptor.
pub(crate) const ANALYTICS_SERVICE: &str = "analytics.AnalyticsService";
/// The service that instances ask each other by.
pub(crate) const PEERS_SERVICE: &str = "analytics.Peers";
/// The shortest time between two lists of a watch.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The implementation of `analytics.AnalyticsService`.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) status: Arc<ServiceStatus>,
    pub(crate) metrics: Metrics,
    pub(crate) grpc: GrpcMetrics,
    pub(crate) peers: Peers,
    /// Moves with each batch that was applied.
    pub(crate) applied: watch::Receiver<u64>,
    /// Ends the watches.
    pub(crate) drain: Drain,
}

#[tonic::async_trait]
impl AnalyticsService for Service {
    type WatchTopCountersStream = ReceiverStream<Result<TopCountersResponse, Status>>;

    async fn get_top_counters(
        &self,
        request: Request<TopCountersRequest>,
    ) -> Result<Response<TopCountersResponse>, Status> {
        self.counted("GetTopCounters", self.top(request.into_inner()))
            .await
    }

    async fn get_counter_stats(
        &self,
        request: Request<StatsRequest>,
    ) -> Result<Response<StatsResponse>, Status> {
        self.counted("GetCounterStats", self.stats(request.into_inner()))
            .await
    }

    async fn watch_top_counters(
        &self,
        request: Request<TopCountersRequest>,
    ) -> Result<Response<Self::WatchTopCountersStream>, Status> {
        self.counted("WatchTopCounters", self.watch(request.into_inner()))
            .await
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        self.counted("GetStatus", async { Ok(self.status.to_message()) })
            .await
    }
}

#[tonic::async_trait]
impl PeersService for Service {
    async fn get_shares(
        &self,
        request: Request<SharesRequest>,
    ) -> Result<Response<SharesResponse>, Status> {
        let call = self.grpc.begin(PEERS_SERVICE, "GetShares");
        let answer = self.shares(request.into_inner()).await;
        call.end(answer.as_ref().err().map_or(Code::Ok, Status::code) as u32);
        answer.map(Response::new)
    }
}

impl Service {
    async fn counted<T>(
        &self,
        method: &'static str,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let call = self.grpc.begin(ANALYTICS_SERVICE, method);
        let answer = answer.await;
        call.end(answer.as_ref().err().map_or(Code::Ok, Status::code) as u32);
        answer.map(Response::new)
    }

    async fn top(&self, request: TopCountersRequest) -> Result<TopCountersResponse, Status> {
        let query = query::top(&request).map_err(refused)?;
        self.ranking(&query, request).await
    }

    async fn ranking(
        &self,
        query: &TopQuery,
        request: TopCountersRequest,
    ) -> Result<TopCountersResponse, Status> {
        let now = unix_seconds();
        let asked = SharesRequest {
            top: Some(request),
            now,
            ..SharesRequest::default()
        };
        let (own, others) = tokio::join!(self.top_shares(query, now), self.peers.ask(&asked));
        let empty = nothing(query, now);
        let mut gathered = Gathered::new(own?, self.status.partitions());
        for other in others {
            gathered.add_all(other, |share| gather::read_top(share, empty.range));
        }
        let (missing, as_of) = (gathered.missing(), gathered.as_of().unwrap_or(now));
        let top = gathered.page(query, self.status.has_source())?;
        let mut response = top_response(query, top.unwrap_or(empty), as_of);
        response.missing_partitions = missing;
        Ok(response)
    }

    async fn top_shares(&self, query: &TopQuery, now: i64) -> Result<Vec<Share<Top>>, Status> {
        let query = query.clone();
        self.ask(move |status| {
            let as_of = |partition, position, newest| status.as_of(partition, position, newest);
            status.tally().top(&query, now, as_of)
        })
        .await
    }

    async fn stats(&self, request: StatsRequest) -> Result<StatsResponse, Status> {
        let now = unix_seconds();
        let query = query::series(&request, now).map_err(refused)?;
        let asked = SharesRequest {
            stats: Some(request),
            now,
            ..SharesRequest::default()
        };
        let (own, others) = tokio::join!(self.series_shares(&query, now), self.peers.ask(&asked));
        let mut gathered = Gathered::new(own?, self.status.partitions());
        for other in others {
            gathered.add_all(other, |share| gather::read_series(share, query.buckets()));
        }
        let as_of = gathered.as_of().unwrap_or(now);
        let unknown = || Series {
            values: vec![0; query.buckets()],
            exact: true,
        };
        let found = gathered.series(self.status.has_source())?;
        let (series, as_of) = found.unwrap_or_else(|| (unknown(), as_of));
        Ok(stats_response(query, &series, as_of))
    }

    async fn series_shares(
        &self,
        query: &SeriesQuery,
        now: i64,
    ) -> Result<Vec<Share<Option<Series>>>, Status> {
        let query = query.clone();
        self.ask(move |status| {
            let as_of = |partition, position, newest| status.as_of(partition, position, newest);
            status.tally().series(&query, now, as_of)
        })
        .await
    }

    /// This instance's shares of a peer's question.
    async fn shares(&self, request: SharesRequest) -> Result<SharesResponse, Status> {
        let shares = if let Some(top) = &request.top {
            let query = query::top(top).map_err(refused)?;
            let shares = self.top_shares(&query, request.now).await?;
            shares.into_iter().map(gather::top_share).collect()
        } else if let Some(stats) = &request.stats {
            let query = query::series(stats, request.now).map_err(refused)?;
            let shares = self.series_shares(&query, request.now).await?;
            shares.into_iter().map(gather::series_share).collect()
        } else {
            return Err(Status::invalid_argument("top or stats: one is needed"));
        };
        Ok(SharesResponse {
            instance: self.peers.instance(),
            partitions: self.status.partitions().unwrap_or(0),
            shares,
        })
    }

    /// Answers from the state, off the runtime's threads: an answer may wait for a batch, or sort a whole type once.
    async fn ask<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&ServiceStatus) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (status, seconds) = (self.status.clone(), self.metrics.query_seconds.clone());
        // Dropped with the call: what waits for a thread then is not worth one any more.
        let caller = Arc::new(());
        let waits = Arc::downgrade(&caller);
        let timed = move || {
            waits.upgrade()?;
            let begun = tokio::time::Instant::now();
            let answer = answer(&status);
            seconds.observe(begun.elapsed().as_secs_f64());
            Some(answer)
        };
        match tokio::task::spawn_blocking(timed).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Status::cancelled("nobody waits for the answer")),
            Err(error) => {
                tracing::error!(%error, "a query failed");
                Err(Status::internal("the query failed: see the service's log"))
            }
        }
    }

    async fn watch(
        &self,
        request: TopCountersRequest,
    ) -> Result<ReceiverStream<Result<TopCountersResponse, Status>>, Status> {
        let query = query::top(&request).map_err(refused)?;
        if query.after.is_some() {
            return Err(Status::invalid_argument(
                "page_token: a watch gives first pages only",
            ));
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.clone().send_changes(query, request, sender));
        Ok(ReceiverStream::new(receiver))
    }

    /// Sends the list, then again when it has changed, until the client goes or the drain begins. A client that does not
    /// read holds this up, so it misses lists in between but never gets an old one late.
    async fn send_changes(
        mut self,
        query: TopQuery,
        request: TopCountersRequest,
        lists: mpsc::Sender<Result<TopCountersResponse, Status>>,
    ) {
        let drain = self.drain.clone();
        let mut tick = interval(WATCH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<Vec<RankedCounter>> = None;
        let mut minute = i64::MIN;
        loop {
            let permit = tokio::select! {
                () = drain.begun() => break,
                permit = next_turn(&mut tick, &lists) => permit,
            };
            let Some(permit) = permit else { return };
            // Windows move with the clock, everything else with the events.
            let now = Resolution::Minute.bucket(unix_seconds());
            let changed = self.applied.has_changed().unwrap_or(false);
            // What changes elsewhere is seen by asking.
            if !changed && now == minute && self.peers.is_empty() {
                continue;
            }
            self.applied.mark_unchanged();
            minute = now;
            match self.ranking(&query, request.clone()).await {
                Ok(list) if last.as_ref() == Some(&list.counters) => {}
                Ok(list) => {
                    last = Some(list.counters.clone());
                    permit.send(Ok(list));
                }
                Err(error) => {
                    permit.send(Err(error));
                    return;
                }
            }
        }
        let _ = lists
            .send(Err(Status::unavailable(
                "the service is shutting down: watch again",
            )))
            .await;
    }
}

/// The next second in which the client has room for a list; `None` when it has gone.
async fn next_turn<'a, T>(
    tick: &mut tokio::time::Interval,
    lists: &'a mpsc::Sender<T>,
) -> Option<mpsc::Permit<'a, T>> {
    tokio::select! {
        () = lists.closed() => return None,
        _ = tick.tick() => {}
    }
    lists.reserve().await.ok()
}

fn refused(invalid: Invalid) -> Status {
    Status::invalid_argument(invalid.to_string())
}

fn top_response(query: &TopQuery, top: Top, as_of: i64) -> TopCountersResponse {
    let next_page_token = match top.places.last() {
        Some(last) if top.more => query::token(query, last),
        _ => String::new(),
    };
    let period = match query.over {
        Over::Period(period) => period.name(),
        Over::Range(_) => "",
    };
    let counters: Vec<_> = top
        .places
        .into_iter()
        .map(|place| ranked(place, &query.counter_type))
        .collect();
    TopCountersResponse {
        counter_type: query.counter_type.clone(),
        period: period.to_owned(),
        total: i32::try_from(counters.len()).unwrap_or(i32::MAX),
        counters,
        range: Some(time_range(top.range)),
        next_page_token,
        as_of,
        exact: top.exact,
        missing_partitions: Vec::new(),
    }
}

fn ranked(place: Place, counter_type: &str) -> RankedCounter {
    RankedCounter {
        rank: i32::try_from(place.rank).unwrap_or(i32::MAX),
        resource_id: place.resource_id.to_string(),
        counter_type: counter_type.to_owned(),
        value: to_i64(place.value),
        error_bound: to_i64(place.error),
    }
}

// A mean needs no more digits than a double has.
#[allow(
    clippy::cast_precision_loss,
    reason = "the contract's means are doubles"
)]
fn stats_response(query: SeriesQuery, series: &Series, as_of: i64) -> StatsResponse {
    let values = &series.values;
    let SeriesQuery {
        counter_type,
        resource_id,
        range,
        resolution,
    } = query;
    let total: i128 = values.iter().sum();
    let starts = (range.start..range.end).step_by(usize::try_from(resolution.width()).unwrap_or(1));
    let point = |(start, value): (i64, &i128)| Point {
        start,
        value: to_i64(*value),
    };
    StatsResponse {
        resource_id,
        counter_type,
        total: to_i64(total),
        average: total as f64 / values.len().max(1) as f64,
        peak: values.iter().max().copied().map_or(0, to_i64),
        rate: total as f64 / (range.end - range.start).max(1) as f64,
        series: starts.zip(values).map(point).collect(),
        range: Some(time_range(range)),
        as_of,
        resolution: resolution.name().to_owned(),
        exact: series.exact,
    }
}

fn time_range(range: Seconds) -> TimeRange {
    TimeRange {
        start: range.start,
        end: range.end,
    }
}

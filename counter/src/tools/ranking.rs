//! What analytics says of all counters of a type: its all-time ranking, page by page.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::Context as _;
use proto::analytics::TopCountersRequest;
use proto::analytics::analytics_service_client::AnalyticsServiceClient;
use tonic::transport::Channel;

use super::progress::Progress;
use super::wrong;

const PAGE: i32 = 1000;
/// How long analytics may take to be there, and for a page.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to `HOST:PORT`.
pub(super) async fn connect(address: &str) -> anyhow::Result<AnalyticsServiceClient<Channel>> {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let channel = Channel::from_shared(format!("http://{address}"))
        .map_err(|why| wrong("--analytics", format!("{address:?}: {why}")))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    let channel = channel.connect().await;
    let channel = channel.with_context(|| format!("analytics at {address}"))?;
    Ok(AnalyticsServiceClient::new(channel))
}

/// What is said of a type as a whole.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Whether all values are exact.
    pub(super) exact: bool,
    /// Partitions that no instance answers for.
    pub(super) missing: BTreeSet<u32>,
}

/// The value of every counter of a type.
pub(super) async fn values(
    client: &mut AnalyticsServiceClient<Channel>,
    counter_type: &str,
    values: &mut HashMap<String, i64>,
) -> anyhow::Result<Answer> {
    let mut page_token = String::new();
    let mut answer = Answer {
        exact: true,
        ..Answer::default()
    };
    let mut progress = Progress::new("rankings", None);
    loop {
        let request = TopCountersRequest {
            counter_type: counter_type.to_owned(),
            limit: Some(PAGE),
            period: "all".to_owned(),
            page_token,
            ..TopCountersRequest::default()
        };
        let page = client.get_top_counters(request).await?.into_inner();
        answer.exact &= page.exact;
        answer.missing.extend(page.missing_partitions);
        progress.add(page.counters.len() as u64);
        for ranked in page.counters {
            values.insert(
                format!("{}:{}", ranked.resource_id, ranked.counter_type),
                ranked.value,
            );
        }
        if page.next_page_token.is_empty() {
            return Ok(answer);
        }
        page_token = page.next_page_token;
    }
}

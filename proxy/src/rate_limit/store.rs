//! Buckets in Redis, for all gateways together: one script, one round trip, and Redis's own clock, so that no two
//! gateways have to agree on the time.
//!
//! A bucket is one string that expires when it is full. Its key is a hash: what clients send as keys may be a
//! secret. An answer is waited for [`PATIENCE`] long; then the store counts as away until it answers again, and
//! nobody waits meanwhile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::RedisUrl;
use redis::Script;
use resilience::rate::{Decision, Gcra};
use service_kit::Readiness;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::StoreView;
use super::link::Link;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(50);

/// The generic cell rate algorithm, as in `resilience::rate`, in microseconds. Gives whether the request may pass
/// and how much of the bucket is used then. Doubles hold such times to a quarter of a microsecond, hence the one
/// to spare.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.min(tonumber(redis.call('GET', KEYS[1]) or 0), now + burst * interval)
local used = math.max(full_at - now, 0)
if used + interval > burst * interval + 1 then
  return {0, math.floor(used)}
end
used = used + interval
redis.call('SET', KEYS[1], string.format('%.2f', now + used), 'PX', math.ceil(used / 1000))
return {1, math.floor(used)}
";

/// One Redis.
pub(super) struct Store {
    script: Arc<Script>,
    link: Link,
}

/// The store did not answer in time.
#[derive(Debug)]
pub(super) struct Away;

/// Where the buckets of one route are.
#[derive(Debug)]
pub(super) struct Place(String);

impl Place {
    pub(super) fn of(route: &str) -> Self {
        Self(format!("highpress:rate:{route}:"))
    }

    fn key(&self, key: &[u8]) -> String {
        use fmt::Write as _;
        let mut text = String::with_capacity(self.0.len() + 32);
        text.push_str(&self.0);
        for byte in &Sha256::digest(key)[..16] {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl Store {
    /// Begins to connect, and keeps the connection up for as long as it lives.
    pub(super) fn start(url: &RedisUrl, runtime: &Handle, readiness: &Readiness) -> Self {
        let script = Arc::new(Script::new(SCRIPT));
        Self {
            link: Link::start(url, script.clone(), runtime, readiness),
            script,
        }
    }

    /// Takes one out of a bucket, if it holds one.
    pub(super) async fn take(
        &self,
        place: &Place,
        key: &[u8],
        gcra: Gcra,
    ) -> Result<Decision, Away> {
        let mut lease = self.link.lease().ok_or(Away)?;
        let mut invocation = self.script.key(place.key(key));
        invocation
            .arg(gcra.interval().as_nanos() as f64 / 1000.0)
            .arg(gcra.burst());
        let answer = invocation.invoke_async::<(u8, u64)>(&mut lease.connection);
        match timeout(PATIENCE, answer).await {
            Ok(Ok((allowed, used))) => {
                self.link.answered();
                Ok(gcra.decision(allowed == 1, Duration::from_micros(used)))
            }
            Ok(Err(error)) => {
                self.link.away(&error.to_string());
                Err(Away)
            }
            Err(_) => {
                lease.hangs.notify_one();
                self.link.away("it does not answer in time");
                Err(Away)
            }
        }
    }

    pub(super) fn view(&self) -> StoreView {
        StoreView {
            store: self.link.name().to_owned(),
            up: self.link.is_up(),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.link.name()).finish()
    }
}

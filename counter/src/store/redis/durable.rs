//! Waiting for replicas before an increment is acknowledged: `WAIT`, <https://redis.io/docs/latest/commands/wait/>.
//!
//! It narrows the window in which a failover loses what was acknowledged; it does not close it. `WAIT` speaks of what its own
//! connection wrote, so a mark is written before it: otherwise the answer to a repeat, which writes nothing, would be given
//! before the replicas have what it repeats.

use std::str::FromStr;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::place::Place;
use crate::store::StoreError;

/// How many replicas must have an increment, and how long to wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    replicas: u32,
    timeout: Duration,
}

impl Durable {
    /// The longest wait for replicas.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Adds the mark and the wait.
    pub(super) fn append_to(&self, commands: &mut Pipeline, place: &Place) {
        commands.cmd("SET").arg(place.mark()).arg("");
        let millis = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        commands.cmd("WAIT").arg(self.replicas).arg(millis);
    }

    /// What is missing, by the answers to the mark and the wait.
    pub(super) fn missing(&self, answers: &[Value]) -> Option<StoreError> {
        let why = match answers {
            [Value::Okay, Value::Int(have)] if *have >= i64::from(self.replicas) => return None,
            [Value::Okay, Value::Int(have)] => {
                format!(
                    "{have} of {} replicas have it after {:?}",
                    self.replicas, self.timeout
                )
            }
            [Value::ServerError(error), _] | [_, Value::ServerError(error)] => {
                format!("Redis will not wait for replicas: {error}")
            }
            _ => "Redis gave an answer of the wrong kind to WAIT".to_owned(),
        };
        Some(StoreError::OutcomeUnknown(why.into()))
    }
}

impl FromStr for Durable {
    type Err = String;

    /// `REPLICAS:TIMEOUT`, such as `1:200ms`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (replicas, timeout) = text
            .split_once(':')
            .ok_or("write REPLICAS:TIMEOUT, such as 1:200ms")?;
        let replicas = replicas
            .parse()
            .ok()
            .filter(|replicas| *replicas > 0)
            .ok_or_else(|| format!("{replicas:?} is not a number of replicas"))?;
        let timeout = service_kit::settings::duration(timeout)?;
        if timeout.is_zero() {
            return Err("a timeout of nothing would wait for ever".to_owned());
        }
        Ok(Self { replicas, timeout })
    }
}

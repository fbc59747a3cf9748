//! Who differs from its peers: by more standard deviations than chance explains, and by enough to matter.

use std::time::Duration;

use super::Reason;
use super::record::Sample;

/// With fewer endpoints that have something to say there is no comparing them (Envoy's default).
const MIN_HOSTS: usize = 5;

/// With fewer calls since the last sweep an endpoint has nothing to say (Envoy's default).
const MIN_CALLS: u64 = 100;

/// So many standard deviations are too far from the mean (Envoy's default).
const FACTOR: f64 = 1.9;

/// And a success rate has to be this far below the mean: one failure of a thousand is nobody's fault.
const RATE_MARGIN: f64 = 0.05;

/// And a latency has to be so many times the median: fast endpoints differ by microseconds.
const LATENCY_MARGIN: f64 = 2.0;

/// What is compared, of the endpoint at this index.
type Measured = (usize, f64);

/// Endpoints that succeed less often than the others; the worst first.
pub(super) fn by_success(samples: &[Option<Sample>]) -> Vec<(usize, Reason)> {
    let rates = measured(samples, Sample::calls, Sample::success_rate);
    let Some((mean, deviation)) = mean_and_deviation(&rates) else {
        return Vec::new();
    };
    let too_low = (mean - FACTOR * deviation).min(mean - RATE_MARGIN);
    let mut outliers: Vec<_> = rates
        .into_iter()
        .filter(|(_, own)| *own < too_low)
        .collect();
    outliers.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let reason = |(index, own)| (index, Reason::SuccessRate { own, mean });
    outliers.into_iter().map(reason).collect()
}

/// Endpoints that are slower than the others; the worst first.
pub(super) fn by_latency(samples: &[Option<Sample>]) -> Vec<(usize, Reason)> {
    let mut times = measured(samples, |sample| sample.successes, Sample::mean_seconds);
    let Some((mean, deviation)) = mean_and_deviation(&times) else {
        return Vec::new();
    };
    times.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let (_, median) = times[times.len() / 2];
    let too_slow = (mean + FACTOR * deviation).max(LATENCY_MARGIN * median);
    let median = Duration::from_secs_f64(median);
    let slow = times.into_iter().filter(|(_, own)| *own > too_slow);
    let reason = |(index, own)| {
        let own = Duration::from_secs_f64(own);
        (index, Reason::Latency { own, median })
    };
    slow.map(reason).collect()
}

fn measured(
    samples: &[Option<Sample>],
    volume: impl Fn(&Sample) -> u64,
    value: impl Fn(&Sample) -> f64,
) -> Vec<Measured> {
    let enough = |sample: &&Sample| volume(sample) >= MIN_CALLS;
    let indexed = samples.iter().enumerate();
    indexed
        .filter_map(|(index, sample)| Some((index, value(sample.as_ref().filter(&enough)?))))
        .collect()
}

/// Of the whole population, not of a sample of it; nothing if it is too small.
fn mean_and_deviation(values: &[Measured]) -> Option<(f64, f64)> {
    if values.len() < MIN_HOSTS {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().map(|(_, value)| value).sum::<f64>() / count;
    let squares = values.iter().map(|(_, value)| (value - mean).powi(2));
    Some((mean, (squares.sum::<f64>() / count).sqrt()))
}

// === impl Sample ===

impl Sample {
    fn calls(&self) -> u64 {
        self.successes + self.failures
    }

    fn success_rate(&self) -> f64 {
        self.successes as f64 / self.calls() as f64
    }

    fn mean_seconds(&self) -> f64 {
        self.time.as_secs_f64() / self.successes as f64
    }
}

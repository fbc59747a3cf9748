//! The analytics service: rankings and time series of the counters.

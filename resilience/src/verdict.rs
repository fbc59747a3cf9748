//! What a finished try says about the endpoint that served it.

/// The word of whoever made the call; policies only count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The endpoint did its work, also if the answer is that the caller was wrong.
    Success,
    /// The endpoint refused, broke, or was too late.
    Failure,
    /// Nobody can tell: the caller went away, or would not wait for as long as the route allows.
    Neutral,
}

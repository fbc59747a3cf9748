//! What is changed about requests and answers on their way, and who is turned away first.

use std::fmt;

use super::{Share, Timeout};

/// The client is sent elsewhere: the parts that are given replace those of the request, the others stay. At least
/// one part is given, and not both `path` and `path_prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host, and perhaps a port.
    pub host: Option<String>,
    /// The whole path.
    pub path: Option<String>,
    /// What stands for the prefix by which the route matches.
    pub path_prefix: Option<String>,
}

impl Redirect {
    /// The status where it is not given.
    pub const DEFAULT_STATUS: u16 = 302;
}

/// What HTTP clusters get to see. At least one part is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// What stands for the prefix by which the route matches.
    pub path_prefix: Option<String>,
    /// The `Host`, perhaps with a port.
    pub host: Option<String>,
}

/// What is changed about a header: first `remove`, then `set`, then `add`. Names are in lower case, and no name is
/// in two of them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// These have this value, whatever they had.
    pub set: Vec<(String, String)>,
    /// These get a further line.
    pub add: Vec<(String, String)>,
    /// These are not there.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Without the values: they may be credentials.
impl fmt::Debug for HeaderEdits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |edits: &[(String, String)]| -> Vec<String> {
            edits.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("HeaderEdits")
            .field("set", &names(&self.set))
            .field("add", &names(&self.add))
            .field("remove", &self.remove)
            .finish()
    }
}

/// Which requests are harmed on purpose, to see what comes of it. At least one of the two is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which ones wait.
    pub delay: Option<Delay>,
    /// Which ones are answered with an error.
    pub abort: Option<Abort>,
    /// Only requests that carry this header line, in lower case. `None`: all.
    pub header: Option<String>,
}

/// Requests that wait before anything is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub duration: Timeout,
    /// How many of them.
    pub share: Share,
}

/// Requests that no backend gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// What they are answered, 400 to 599.
    pub status: u16,
    /// How many of them.
    pub share: Share,
}

/// Who is shed under overload: the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// First.
    Low,
    /// Then these.
    #[default]
    Normal,
    /// Last.
    High,
}

impl Priority {
    /// The word for it in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

//! Collects the problems of one reading.

use std::sync::Arc;

use crate::origins::Origins;
use crate::problem::{Problem, Problems};

/// More problems than this help nobody, and a hostile text shall not make a list longer than itself.
const MAX_PROBLEMS: usize = 200;

/// A problem quotes what is wrong, which may be as long as the text.
const MAX_LENGTH: usize = 1_000;

pub(crate) struct Report {
    origins: Origins,
    problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(origins: Origins) -> Self {
        Self {
            origins,
            problems: Vec::new(),
        }
    }

    /// From here on problems have these sources; what was reported keeps its own.
    pub(crate) fn turn_to(&mut self, origins: Origins) {
        self.origins = origins;
    }

    pub(crate) fn add(&mut self, line: u32, path: &str, why: String) {
        if !self.is_full() {
            let (file, path) = (Arc::clone(self.origins.of(path)), shortened(path));
            let why = shortened(&why);
            self.problems.push(Problem {
                file,
                line,
                path,
                why,
            });
        }
    }

    /// Problems of another file that the text names.
    pub(crate) fn take(&mut self, problems: &Problems) {
        let room = MAX_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(problems.iter().take(room).cloned());
    }

    /// Whether further problems are not listed, so looking for them is no use.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// `value` if there was nothing to report.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Problems::new(self.problems)),
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_LENGTH) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

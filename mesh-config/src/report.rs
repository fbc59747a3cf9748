//! Collects the problems of one reading.

use std::sync::Arc;

use crate::problem::{Problem, Problems};

/// More problems than this help nobody, and a hostile text shall not make a list longer than itself.
const MAX_PROBLEMS: usize = 200;

pub(crate) struct Report {
    file: Arc<str>,
    problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(file: Arc<str>) -> Self {
        Self {
            file,
            problems: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, line: u32, path: &str, why: String) {
        if !self.is_full() {
            self.problems.push(Problem {
                file: Arc::clone(&self.file),
                line,
                path: path.to_owned(),
                why,
            });
        }
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

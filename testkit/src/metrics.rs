//! A scraped `/metrics` page (OpenMetrics text), and its values by name and labels.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::http1::Http1;

/// The samples of one scrape.
#[derive(Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Scrapes `http://ADMIN/metrics`.
    ///
    /// # Panics
    /// When that is not answered with a complete OpenMetrics page.
    pub async fn scrape(admin: SocketAddr) -> Self {
        let page = Http1::connect(admin).await.get("/metrics").await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(
            page.header("content-type")
                .unwrap_or_default()
                .starts_with("application/openmetrics-text"),
            "{page:?}"
        );
        Self::parse(&page.text())
    }

    /// Reads an OpenMetrics page.
    ///
    /// # Panics
    /// When a line is not of the format, or the end mark is missing.
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "no end mark: {text:?}");
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let samples = lines
            .map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}")))
            .collect();
        Self { samples }
    }

    /// The sum of all samples of that name (with its suffix: `_total`, `_count`, `_bucket`) that have these labels,
    /// whatever other labels they have; `None` if there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            let mut labels = labels.iter();
            sample.name == name
                && labels
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        };
        let found: Vec<f64> = self
            .samples
            .iter()
            .filter(has)
            .map(|sample| sample.value)
            .collect();
        if found.is_empty() {
            None
        } else {
            Some(found.iter().sum())
        }
    }

    /// The same of a counter, where never counted is 0.
    pub fn counter_value(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = self.value(name, labels).unwrap_or(0.0);
        assert!(
            value >= 0.0 && value.fract() == 0.0,
            "{name}{labels:?} is no count: {value}"
        );
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked in the line above"
        )]
        let count = value as u64;
        count
    }

    /// The names of all samples, for "is it there".
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(|sample| sample.name.as_str())
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(labels) => labels_of(labels)?,
        None => (BTreeMap::new(), rest),
    };
    // An exemplar or a timestamp may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// `a="1",b="x\"y"} 5` gives the labels and ` 5`.
fn labels_of(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start_matches(',');
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = text.split_once("=\"")?;
        let (value, rest) = unquote(quoted)?;
        labels.insert(name.to_owned(), value);
        text = rest;
    }
}

fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_named() {
        let page = "# TYPE a counter\na_total{x=\"1\",y=\"p\"} 2\na_total{x=\"1\",y=\"q\\\"\"} 3 # {id=\"7\"} 1\nb 0.5\n# EOF\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.counter_value("a_total", &[("x", "1")]), 5);
        assert_eq!(metrics.counter_value("a_total", &[("y", "q\"")]), 3);
        assert_eq!(metrics.counter_value("a_total", &[("x", "2")]), 0);
        assert_eq!(metrics.value("b", &[]), Some(0.5));
    }
}

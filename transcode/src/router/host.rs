//! Hosts: exact names, then the longest wildcard that fits, then everything else.
//!
//! Names are compared without their port, a final dot, and letter case. `*.example.com` takes
//! every name below `example.com`, at any depth, but not `example.com` itself. Other uses of
//! `*` are refused.

use super::RouterError;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Which hosts an entry is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name.
    Exact(String),
    /// Every name below this one (given without `*.`).
    Wildcard(String),
    /// Any host, also none.
    Any,
}

impl HostPattern {
    /// Reads `name`, `*.name` or `*`.
    pub fn parse(text: &str) -> Result<HostPattern, RouterError> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut name = rest.to_ascii_lowercase();
        if name.ends_with('.') {
            name.pop();
        }
        let odd = |c: char| "*/?#@ ".contains(c) || c.is_control();
        if name.is_empty() || name.starts_with('.') || name.contains(odd) || bare(&name) != name {
            return Err(RouterError::Host(text.to_owned()));
        }
        Ok(if wildcard {
            HostPattern::Wildcard(name)
        } else {
            HostPattern::Exact(name)
        })
    }
}

/// One `T` for each distinct host pattern.
#[derive(Debug, Default)]
pub(super) struct Hosts<T> {
    any: T,
    exact: HashMap<Box<str>, T>,
    wildcard: HashMap<Box<str>, T>,
}

impl<T: Default> Hosts<T> {
    pub(super) fn entry(&mut self, pattern: &HostPattern) -> &mut T {
        match pattern {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(name) => self.exact.entry(name.as_str().into()).or_default(),
            HostPattern::Wildcard(name) => self.wildcard.entry(name.as_str().into()).or_default(),
        }
    }

    pub(super) fn tables_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let named = self.exact.values_mut().chain(self.wildcard.values_mut());
        named.chain(std::iter::once(&mut self.any))
    }

    /// Visits what is for this host, the most specific first.
    pub(super) fn visit<'h, B>(
        &'h self,
        host: &str,
        mut visit: impl FnMut(&'h T) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if !self.exact.is_empty() || !self.wildcard.is_empty() {
            let lower: SmallVec<[u8; 256]> =
                bare(host).bytes().map(|b| b.to_ascii_lowercase()).collect();
            // Lower-casing ASCII keeps UTF-8 intact.
            let name = simdutf8::basic::from_utf8(&lower).unwrap_or_default();
            if let Some(found) = self.exact.get(name) {
                visit(found)?;
            }
            if !self.wildcard.is_empty() {
                for dot in memchr::memchr_iter(b'.', name.as_bytes()) {
                    // A wildcard stands for at least one character.
                    let below = name.get(dot + 1..).filter(|_| dot > 0);
                    if let Some(found) = below.and_then(|suffix| self.wildcard.get(suffix)) {
                        visit(found)?;
                    }
                }
            }
        }
        visit(&self.any)
    }
}

/// The host without its port and final dot.
fn bare(host: &str) -> &str {
    let end = match host.rfind(':') {
        // In an IPv6 literal only a colon after the bracket starts the port.
        Some(colon) if !host.starts_with('[') || host[..colon].ends_with(']') => colon,
        _ => host.len(),
    };
    let name = &host[..end];
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn order(patterns: &[&str], host: &str) -> Vec<String> {
        let mut hosts: Hosts<String> = Hosts::default();
        for pattern in patterns {
            *hosts.entry(&HostPattern::parse(pattern).unwrap()) = (*pattern).to_owned();
        }
        let mut seen = Vec::new();
        let flow: ControlFlow<()> = hosts.visit(host, |found| {
            if !found.is_empty() {
                seen.push(found.clone());
            }
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        seen
    }

    #[test]
    fn exact_then_longest_wildcard_then_any() {
        let all = ["*", "*.com", "*.b.com", "a.b.com", "b.com"];
        assert_eq!(order(&all, "a.b.com"), ["a.b.com", "*.b.com", "*.com", "*"]);
        assert_eq!(order(&all, "x.y.b.com"), ["*.b.com", "*.com", "*"]);
        assert_eq!(order(&all, "B.COM.:8080"), ["b.com", "*.com", "*"]);
        assert_eq!(order(&all, "com"), ["*"]);
        assert_eq!(order(&all, ".com"), ["*"]);
        assert_eq!(order(&all, ""), ["*"]);
    }

    #[test]
    fn addresses_keep_their_colons() {
        assert_eq!(bare("[::1]:8080"), "[::1]");
        assert_eq!(bare("[::1]"), "[::1]");
        assert_eq!(bare("127.0.0.1:80"), "127.0.0.1");
        assert_eq!(order(&["[::1]", "127.0.0.1"], "[::1]:9"), ["[::1]"]);
        assert_eq!(order(&["[::1]", "127.0.0.1"], "127.0.0.1:9"), ["127.0.0.1"]);
    }

    #[test]
    fn odd_hosts_are_refused() {
        for odd in [
            "", "*.", "a*.com", "*a", "*.*.com", "a b", "a/b", ".com", "a:80",
        ] {
            assert!(HostPattern::parse(odd).is_err(), "{odd}");
        }
    }
}

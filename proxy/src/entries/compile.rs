//! From entries to a plan, pure, by the rules of Consul's own discovery chain: routes first, then splits, then the resolver of the
//! service that they lead to: its redirect, its default subset, its failover.
//!
//! It asks for entries as it comes upon services, and says which it has asked for, so that they can be watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consul::EntryKind;
use serde_json::Value;

use super::conditions::Conditions;
use super::options::{Edits, Options};
use super::plan::{Leaf, Place, Plan, Route, Target};
use super::raw::{self, Aim, Destination, Finds, Resolver};

/// Redirects and splits that lead on for longer lead nowhere.
const MOST_STEPS: usize = 16;
/// More shares than that are a mistake, not a plan.
const MOST_LEAVES: usize = 256;

/// Entries by kind and service, as far as they are known; `None`: there is none.
pub(crate) type Known = BTreeMap<(EntryKind, String), Option<Value>>;

/// What compiling came to.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// What was asked for, known or not.
    pub(crate) asked: BTreeSet<(EntryKind, String)>,
    /// # Errors
    /// Everything that is wrong.
    pub(crate) plan: Result<Plan, Vec<String>>,
    /// What Consul knows and this does not, by its path.
    pub(crate) unsupported: Vec<String>,
}

struct Compiler<'a> {
    known: &'a Known,
    asked: BTreeSet<(EntryKind, String)>,
    finds: Finds,
    targets: Vec<Target>,
}

/// A target with what its resolver says of the time.
#[derive(Clone, Copy)]
struct Resolved {
    target: usize,
    timeout: Option<Duration>,
}

/// Compiles the entries of a service.
pub(crate) fn compile(service: &str, known: &Known) -> Compiled {
    let mut compiler = Compiler {
        known,
        asked: BTreeSet::new(),
        finds: Finds::default(),
        targets: Vec::new(),
    };
    let routes = compiler.routes(service);
    let Finds {
        problems,
        unsupported,
    } = compiler.finds;
    let plan = Plan {
        routes,
        targets: compiler.targets,
    };
    let good = problems.is_empty();
    Compiled {
        asked: compiler.asked,
        plan: if good { Ok(plan) } else { Err(problems) },
        unsupported: unsupported.into_iter().collect(),
    }
}

impl Compiler<'_> {
    fn entry(&mut self, kind: EntryKind, service: &str) -> Option<Value> {
        let key = (kind, service.to_owned());
        let found = self.known.get(&key).cloned().flatten();
        self.asked.insert(key);
        found
    }

    fn routes(&mut self, service: &str) -> Vec<Route> {
        let mut routes = Vec::new();
        if let Some(entry) = self.entry(EntryKind::Router, service) {
            for (conditions, to) in raw::router(&entry, service, &mut self.finds).routes {
                let leaves = self.destination(service, &to);
                routes.push(Route { conditions, leaves });
            }
        }
        let leaves = self.destination(service, &Destination::default());
        routes.push(Route {
            conditions: Conditions::default(),
            leaves,
        });
        routes.retain(|route| !route.leaves.is_empty());
        routes
    }

    /// The shares of a route.
    fn destination(&mut self, service: &str, to: &Destination) -> Vec<Leaf> {
        let service = to.service.as_deref().unwrap_or(service);
        let shares = match &to.subset {
            // Who names a subset means it: it is not split again.
            Some(subset) => self.whole(service, Some(subset)),
            None => self.shares(service, &mut Vec::new()),
        };
        if shares.len() > MOST_LEAVES {
            let why = format!("service-splitter {service}: more than {MOST_LEAVES} shares");
            self.finds.problems.push(why);
            return Vec::new();
        }
        let leaf = |(weight, resolved, edits): (f64, Resolved, Edits)| {
            let timeout = to.timeout.or(resolved.timeout);
            let edits = both(&to.edits, &edits);
            let options = Options::new(timeout, to.retry.clone(), to.prefix.clone(), edits);
            Leaf {
                // At most 10,000, and at least 1, as it has a weight.
                weight: (weight.round() as u32).max(1),
                target: resolved.target,
                options: Arc::new(options),
            }
        };
        shares.into_iter().map(leaf).collect()
    }

    fn whole(&mut self, service: &str, subset: Option<&str>) -> Vec<(f64, Resolved, Edits)> {
        let resolved = self.target(service, subset);
        let one = resolved.map(|resolved| (10_000.0, resolved, Edits::default()));
        one.into_iter().collect()
    }

    /// The shares of a service; those of other services are split by their own splitters.
    fn shares(
        &mut self,
        service: &str,
        on_the_way: &mut Vec<String>,
    ) -> Vec<(f64, Resolved, Edits)> {
        if on_the_way.len() > MOST_STEPS || on_the_way.iter().any(|known| known == service) {
            let why = format!("service-splitter {service}: it leads back to itself");
            self.finds.problems.push(why);
            return Vec::new();
        }
        let Some(entry) = self.entry(EntryKind::Splitter, service) else {
            return self.whole(service, None);
        };
        on_the_way.push(service.to_owned());
        let mut shares = Vec::new();
        for split in raw::splitter(&entry, service, &mut self.finds).splits {
            if split.weight == 0 {
                continue;
            }
            let to = split.service.as_deref().unwrap_or(service);
            let within = if to == service || split.subset.is_some() {
                self.whole(to, split.subset.as_deref())
            } else {
                self.shares(to, on_the_way)
            };
            let all: f64 = within.iter().map(|(weight, ..)| weight).sum();
            for (weight, resolved, edits) in within {
                let weight = f64::from(split.weight) * weight / all;
                shares.push((weight, resolved, both(&split.edits, &edits)));
            }
        }
        on_the_way.pop();
        shares
    }

    /// The instances that a service and subset come to, with who takes their place.
    fn target(&mut self, service: &str, subset: Option<&str>) -> Option<Resolved> {
        let aim = Aim {
            service: Some(service.to_owned()),
            subset: subset.map(str::to_owned),
            datacenter: None,
        };
        let (first, resolver) = self.resolve(aim)?;
        let of_subset = first.subset.as_deref();
        let of_subset = of_subset.and_then(|subset| resolver.failover.get(subset));
        let failover = of_subset.or_else(|| resolver.failover.get("*")).cloned();
        let mut places = vec![first.clone()];
        for other in failover.into_iter().flatten() {
            let aim = onward(&first, other);
            if let Some((place, _)) = self.resolve(aim)
                && !places.contains(&place)
            {
                places.push(place);
            }
        }
        let target = Target {
            places,
            connect_timeout: resolver.connect_timeout,
            balancing: resolver.balancing,
        };
        let known = self.targets.iter().position(|known| *known == target);
        let target = known.unwrap_or_else(|| {
            self.targets.push(target);
            self.targets.len() - 1
        });
        Some(Resolved {
            target,
            timeout: resolver.request_timeout,
        })
    }

    /// One place, after all redirects, with the resolver of its service.
    fn resolve(&mut self, mut aim: Aim) -> Option<(Place, Resolver)> {
        for _ in 0..MOST_STEPS {
            let service = aim.service.clone().unwrap_or_default();
            let entry = self.entry(EntryKind::Resolver, &service);
            let resolver = entry.map(|entry| raw::resolver(&entry, &service, &mut self.finds));
            let resolver = resolver.unwrap_or_default();
            if let Some(redirect) = &resolver.redirect {
                let next = redirected(&aim, redirect);
                if next == aim {
                    break;
                }
                aim = next;
                continue;
            }
            let subset = aim.subset.or_else(|| resolver.default_subset.clone());
            let of = match &subset {
                None => raw::Subset::default(),
                Some(name) => match resolver.subsets.get(name) {
                    Some(of) => of.clone(),
                    None => {
                        let why = format!("service-resolver {service}: it has no subset `{name}`");
                        self.finds.problems.push(why);
                        return None;
                    }
                },
            };
            let place = Place {
                service,
                subset,
                filter: of.filter,
                only_passing: of.only_passing,
                datacenter: aim.datacenter,
            };
            return Some((place, resolver));
        }
        let service = aim.service.unwrap_or_default();
        let why = format!("service-resolver {service}: its redirect leads back to itself");
        self.finds.problems.push(why);
        None
    }
}

/// Another service has subsets of its own; what else is not said stays.
fn redirected(from: &Aim, to: &Aim) -> Aim {
    let moves = to.service.is_some() && to.service != from.service;
    let subset = if moves { None } else { from.subset.clone() };
    Aim {
        service: to.service.clone().or_else(|| from.service.clone()),
        subset: to.subset.clone().or(subset),
        datacenter: to.datacenter.clone().or_else(|| from.datacenter.clone()),
    }
}

fn onward(from: &Place, to: Aim) -> Aim {
    let from = Aim {
        service: Some(from.service.clone()),
        subset: from.subset.clone(),
        datacenter: from.datacenter.clone(),
    };
    redirected(&from, &to)
}

/// First the outer, then the inner.
fn both(outer: &Edits, inner: &Edits) -> Edits {
    let mut all = outer.clone();
    for (edits, more) in [
        (&mut all.request, &inner.request),
        (&mut all.response, &inner.response),
    ] {
        edits.set.extend(more.set.iter().cloned());
        edits.add.extend(more.add.iter().cloned());
        edits.remove.extend(more.remove.iter().cloned());
    }
    all
}

#[cfg(test)]
mod tests;

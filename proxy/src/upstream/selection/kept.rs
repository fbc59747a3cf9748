//! What outlives selections: hash tables, which cost much to make and change only with the endpoints that there are, and how many
//! requests are in flight at endpoints that bound them together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use balance::{Maglev, Ring, Table, hash};
use mesh_config::model::{BalancingPolicy, LoadBalancing};

use super::super::endpoint::Endpoint;

/// Endpoints of one selection that are as good as each other: subset, tier and distance. The subset is known by where it is.
pub(super) type Group = (usize, u32, u8);

/// What outlives selections.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    tables: BTreeMap<Group, Made>,
    totals: BTreeMap<Group, Arc<AtomicUsize>>,
    /// Groups that selections have been made of since [`Self::begin`].
    used: Vec<Group>,
}

#[derive(Debug)]
struct Made {
    rules: LoadBalancing,
    members: Vec<(u64, f64)>,
    table: Arc<Table>,
}

// === impl Kept ===

impl Kept {
    /// All selections of a cluster are going to be made.
    pub(crate) fn begin(&mut self) {
        self.used.clear();
    }

    /// They have been made: what none of them needs is forgotten.
    pub(crate) fn end(&mut self) {
        let used = &self.used;
        self.tables.retain(|group, _| used.contains(group));
        self.totals.retain(|group, _| used.contains(group));
    }

    /// The table of these endpoints, whether they are usable or not: those that are not are passed over, so that nobody else's keys move.
    pub(super) fn table(
        &mut self,
        group: Group,
        members: &[&Arc<Endpoint>],
        rules: LoadBalancing,
    ) -> Arc<Table> {
        self.used.push(group);
        let seeded = |one: &&Arc<Endpoint>| {
            let weight = f64::from(one.weight().max(1));
            (hash::point(one.name().as_bytes()), weight)
        };
        let members: Vec<(u64, f64)> = members.iter().map(seeded).collect();
        if let Some(made) = self.tables.get(&group)
            && made.rules == rules
            && made.members == members
        {
            return Arc::clone(&made.table);
        }
        let table = Arc::new(match rules.policy {
            BalancingPolicy::Maglev => Table::Maglev(Maglev::new(&members, rules.table_size.get())),
            _ => Table::Ring(Ring::new(&members, rules.points_among(members.len()))),
        });
        let made = Made {
            rules,
            members,
            table: Arc::clone(&table),
        };
        self.tables.insert(group, made);
        table
    }

    /// How many requests are in flight at a group.
    pub(super) fn total(&mut self, group: Group) -> Arc<AtomicUsize> {
        self.used.push(group);
        Arc::clone(self.totals.entry(group).or_default())
    }
}

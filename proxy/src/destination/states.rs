//! What is known of the destinations of routes beyond one table: switches, verdicts over canaries, fallbacks. It
//! goes by the names of routes, and outlives every reload.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_config::model::{self, RouteName};
use parking_lot::Mutex;

use super::canary::Trial;
use super::fallback::Fallbacks;
use super::switch::{Cell, OpenError, Store, SwitchError, Switched, Switches};
use crate::route_table::{RouteTable, Row};

/// What is known of one route.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) route: String,
    pub(super) switch: Cell,
    trial: Mutex<Option<Arc<Trial>>>,
    pub(crate) fallbacks: Fallbacks,
}

/// What is known of all routes.
#[derive(Debug, Default)]
pub(crate) struct States {
    store: Store,
    /// Locked while a switch is made: one hand at a time.
    switches: Mutex<Switches>,
    routes: Mutex<BTreeMap<String, Arc<State>>>,
}

/// A switch, and whether it holds.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) route: String,
    pub(crate) switched: Switched,
    /// What the configuration in force lacks.
    pub(crate) without_effect: Option<&'static str>,
}

impl State {
    /// The trial of a canary: the one that is under way if it is of the same map, else a new one.
    pub(super) fn trial(&self, route: &RouteName, canary: &model::Canary) -> Arc<Trial> {
        let mut trial = self.trial.lock();
        match &*trial {
            Some(known) if known.is_of(canary) => Arc::clone(known),
            _ => Arc::clone(trial.insert(Arc::new(Trial::new(route, canary)))),
        }
    }
}

impl States {
    /// What a data directory has kept; without one, switches end with the process.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self, OpenError> {
        let store = Store::in_dir(dir);
        let switches = store.read()?;
        Ok(Self {
            store,
            switches: Mutex::new(switches),
            routes: Mutex::default(),
        })
    }

    /// What is known of a route.
    pub(crate) fn of(&self, route: &str) -> Arc<State> {
        let switches = self.switches.lock();
        let mut routes = self.routes.lock();
        let state = routes.entry(route.to_owned()).or_insert_with(|| {
            let state = State {
                route: route.to_owned(),
                ..State::default()
            };
            state.switch.set(switches.get(route).map(|to| &*to.cluster));
            Arc::new(state)
        });
        Arc::clone(state)
    }

    /// What is known of every route, by name.
    pub(crate) fn all(&self) -> Vec<Arc<State>> {
        self.routes.lock().values().cloned().collect()
    }

    /// Switches a route of the table to a cluster, from the next request on.
    pub(crate) fn switch(
        &self,
        table: &RouteTable,
        route: &str,
        cluster: &str,
    ) -> Result<(), SwitchError> {
        let row = row(table, route)?;
        let destination = &row.policies.destination;
        if destination.switchable(cluster).is_none() {
            return Err(SwitchError::UnknownCluster {
                name: cluster.to_owned(),
                route: route.to_owned(),
                known: destination.switchables().map(str::to_owned).collect(),
            });
        }
        let mut switches = self.switches.lock();
        let mut after = switches.clone();
        let switched = Switched {
            cluster: cluster.to_owned(),
            since: mesh_config::rfc3339(SystemTime::now()),
        };
        after.insert(route.to_owned(), switched);
        self.store.write(&after)?;
        *switches = after;
        destination.state.switch.set(Some(cluster));
        tracing::warn!(route, cluster, "a route was switched by hand");
        Ok(())
    }

    /// Undoes a switch: requests go where the configuration says. A canary that was taken back has another chance.
    pub(crate) fn back(&self, table: &RouteTable, route: &str) -> Result<(), SwitchError> {
        let mut switches = self.switches.lock();
        let mut after = switches.clone();
        let was_switched = after.remove(route).is_some();
        let state = self.routes.lock().get(route).cloned();
        let trial = state.as_ref().and_then(|state| state.trial.lock().clone());
        let sentenced = trial.filter(|trial| trial.is_over());
        // A switch that is without effect because its route is gone can be undone too.
        if !was_switched && sentenced.is_none() {
            row(table, route)?;
            return Err(SwitchError::NotSwitched(route.to_owned()));
        }
        self.store.write(&after)?;
        *switches = after;
        if let Some(state) = state {
            state.switch.set(None);
        }
        if let Some(trial) = sentenced {
            trial.again();
        }
        if was_switched {
            tracing::warn!(route, "a switch was undone by hand");
        }
        Ok(())
    }

    /// Every switch, by route.
    pub(crate) fn switches(&self) -> Switches {
        self.switches.lock().clone()
    }

    /// Every switch, and whether it holds in a table.
    pub(crate) fn list(&self, table: &RouteTable) -> Vec<Listed> {
        let listed = |(route, switched): (&String, &Switched)| {
            let without_effect = match row(table, route) {
                Err(_) => Some("there is no such route"),
                Ok(row) => {
                    let known = row.policies.destination.switchable(&switched.cluster);
                    known
                        .is_none()
                        .then_some("there is no such cluster that the route can go to")
                }
            };
            Listed {
                route: route.clone(),
                switched: switched.clone(),
                without_effect,
            }
        };
        self.switches.lock().iter().map(listed).collect()
    }

    /// Says of every switch whether it holds in a table that has just been made.
    pub(crate) fn tell(&self, table: &RouteTable) {
        for Listed {
            route,
            switched,
            without_effect,
        } in self.list(table)
        {
            let Switched { cluster, since } = switched;
            match without_effect {
                None => tracing::warn!(route, cluster, since, "a route is switched by hand"),
                Some(why) => tracing::error!(
                    route,
                    cluster,
                    since,
                    why,
                    "a switch by hand is kept but without effect: undo it with `switch ROUTE --back`"
                ),
            }
        }
    }
}

/// A row of a route whose requests go to clusters.
fn row<'t>(table: &'t RouteTable, route: &str) -> Result<&'t Row, SwitchError> {
    let routed = || table.rows().iter().filter(|row| row.cluster().is_some());
    let mut rows = routed().filter(|row| &*row.route == route);
    rows.next().ok_or_else(|| {
        let mut known: Vec<String> = routed().map(|row| row.route.to_string()).collect();
        known.dedup();
        SwitchError::UnknownRoute {
            name: route.to_owned(),
            known,
        }
    })
}

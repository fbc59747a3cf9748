//! What is known of the destinations of routes beyond one table: switches, verdicts over canaries, fallbacks. It
//! goes by the names of routes, and outlives every reload.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use mesh_config::model::{self, RouteName};
use parking_lot::Mutex;

use super::canary::Trial;
use super::fallback::Fallbacks;
use super::shared::SharedKey;
use super::switch::{Cell, OpenError, Store, SwitchError, Switched, Switches};
use super::verdicts::Verdicts;
use crate::route_table::{RouteTable, Row};

/// What is known of one route.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) route: String,
    pub(super) switch: Cell,
    trial: Mutex<Option<Arc<Trial>>>,
    verdicts: Arc<Verdicts>,
    pub(crate) fallbacks: Fallbacks,
}

/// What is known of all routes.
#[derive(Debug, Default)]
pub(crate) struct States {
    store: Store,
    /// Where they are kept beside it, if gateways share them.
    shared: OnceLock<SharedKey>,
    /// Held while a switch is made: one hand at a time.
    turn: tokio::sync::Mutex<()>,
    switches: Mutex<Switches>,
    verdicts: Arc<Verdicts>,
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
            _ => {
                let fresh = Trial::new(route, canary, Arc::clone(&self.verdicts));
                Arc::clone(trial.insert(Arc::new(fresh)))
            }
        }
    }
}

impl States {
    /// What a data directory has kept; without one, switches and verdicts end with the process.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self, OpenError> {
        let store = Store::in_dir(dir);
        let switches = store.read()?;
        Ok(Self {
            store,
            switches: Mutex::new(switches),
            verdicts: Arc::new(Verdicts::open(dir)?),
            ..Self::default()
        })
    }

    /// What is known of a route.
    pub(crate) fn of(&self, route: &str) -> Arc<State> {
        let switches = self.switches.lock();
        let mut routes = self.routes.lock();
        let state = routes.entry(route.to_owned()).or_insert_with(|| {
            let state = State {
                route: route.to_owned(),
                verdicts: Arc::clone(&self.verdicts),
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
    pub(crate) async fn switch(
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
        self.change(|switches| {
            let switched = Switched {
                cluster: cluster.to_owned(),
                since: mesh_config::rfc3339(SystemTime::now()),
            };
            switches.insert(route.to_owned(), switched);
            Ok(())
        })
        .await
    }

    /// Undoes a switch: requests go where the configuration says. A canary that was taken back has another chance.
    pub(crate) async fn back(&self, table: &RouteTable, route: &str) -> Result<(), SwitchError> {
        let state = self.routes.lock().get(route).cloned();
        let trial = state.as_ref().and_then(|state| state.trial.lock().clone());
        let sentenced = trial.filter(|trial| trial.is_over());
        // A switch that is without effect because its route is gone can be undone too.
        let known = row(table, route).map(|_| ());
        let undone = self.change(|switches| match switches.remove(route) {
            Some(_) => Ok(()),
            None => Err(SwitchError::NotSwitched(route.to_owned())),
        });
        match (undone.await, sentenced) {
            (Ok(()), trial) => {
                if let Some(trial) = trial {
                    trial.again();
                }
                Ok(())
            }
            (Err(SwitchError::NotSwitched(_)), Some(trial)) => {
                trial.again();
                Ok(())
            }
            (Err(error @ SwitchError::NotSwitched(_)), None) => known.and(Err(error)),
            (Err(error), _) => Err(error),
        }
    }

    /// Keeps a change where switches are kept, then lets it hold.
    async fn change(
        &self,
        change: impl Fn(&mut Switches) -> Result<(), SwitchError> + Send,
    ) -> Result<(), SwitchError> {
        let _turn = self.turn.lock().await;
        let mut after = self.switches.lock().clone();
        if let Some(shared) = self.shared.get() {
            let mine = after;
            after = shared.change(change, &mine).await?;
            self.take(after);
            return Ok(());
        }
        change(&mut after)?;
        self.store.write(&after)?;
        self.hold(after);
        Ok(())
    }

    /// Shares switches with other gateways from now on.
    pub(super) fn set_shared(&self, shared: SharedKey) {
        // It is set once, at the start.
        let _ = self.shared.set(shared);
    }

    /// Takes what the gateways that share switches have agreed on.
    pub(super) fn take(&self, after: Switches) {
        if *self.switches.lock() == after {
            return;
        }
        if let Err(why) = self.store.write(&after) {
            tracing::warn!(%why, "a start without Consul would not know the switches");
        }
        self.hold(after);
    }

    /// Lets switches hold in the place of those that did.
    fn hold(&self, after: Switches) {
        let mut switches = self.switches.lock();
        let before = std::mem::replace(&mut *switches, after);
        let routes = self.routes.lock();
        for (route, switched) in switches.iter() {
            if before.get(route).map(|before| &before.cluster) == Some(&switched.cluster) {
                continue;
            }
            if let Some(state) = routes.get(route) {
                state.switch.set(Some(&switched.cluster));
            }
            let cluster = &switched.cluster;
            tracing::warn!(route, cluster, "a route was switched by hand");
        }
        for route in before.keys().filter(|route| !switches.contains_key(*route)) {
            if let Some(state) = routes.get(route) {
                state.switch.set(None);
            }
            tracing::warn!(route, "a switch was undone by hand");
        }
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

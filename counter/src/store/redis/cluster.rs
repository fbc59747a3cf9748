//! A cluster of Redis: which node has which slot, kept up to date, and requests that went to the wrong one.
//!
//! The map is asked for at the start, every few seconds, and whenever a node says that a slot is not there. A slot that is being
//! moved takes no script until it has arrived (`TRYAGAIN`, `ASK`): such requests wait for it, up to the time that a command
//! may take, and are then refused; nothing was done with them. <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::{FromRedisValue as _, RedisError, Value};
use service_kit::{Readiness, ReadinessGuard};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connect::{Seek, open};
use super::lanes::Lane;
use super::link::Lease;
use super::pipeline::{Request, Shared};
use super::target::{Node, Target};
use super::{redis_key, reply, slot};
use crate::store::StoreError;

/// How often the map is asked for anyway.
const REFRESH: Duration = Duration::from_secs(2);
/// Time for one node to tell the map.
const ASK_TIMEOUT: Duration = Duration::from_millis(600);
/// Pause before a request is sent to where its slot is said to be.
const PAUSE: Duration = Duration::from_millis(25);

/// The nodes and what they have.
pub(super) struct Cluster {
    map: Arc<ArcSwap<Map>>,
    refresh: Arc<Notify>,
    _keeper: JoinSet<()>,
}

#[derive(Default)]
struct Map {
    /// The lane of each slot; more than there are if the slot has none.
    slots: Vec<u16>,
    lanes: Vec<Arc<Lane>>,
    why: String,
}

impl Map {
    fn lane(&self, slot: usize) -> Result<&Arc<Lane>, StoreError> {
        let lane = self
            .slots
            .get(slot)
            .and_then(|lane| self.lanes.get(usize::from(*lane)));
        lane.ok_or_else(|| {
            let why = if self.why.is_empty() {
                "no node has this slot"
            } else {
                &self.why
            };
            StoreError::Unavailable(format!("the Redis cluster is away: {why}").into())
        })
    }
}

impl Cluster {
    pub(super) fn start(
        target: Arc<Target>,
        command_timeout: Duration,
        readiness: Readiness,
        shared: &Arc<Shared>,
        elsewhere: mpsc::UnboundedReceiver<(Request, StoreError)>,
    ) -> Self {
        let map = Arc::new(ArcSwap::from_pointee(Map {
            why: "not known yet".to_owned(),
            ..Map::default()
        }));
        let refresh = Arc::new(Notify::new());
        let guard = readiness.guard(format!("{target:?}"));
        let mut keeper = JoinSet::new();
        let tries =
            u32::try_from(command_timeout.as_millis() / PAUSE.as_millis()).unwrap_or(u32::MAX);
        keeper.spawn(send_again(
            elsewhere,
            map.clone(),
            refresh.clone(),
            tries.max(1),
        ));
        let keeping = Keeper {
            target,
            command_timeout,
            readiness,
            shared: shared.clone(),
            map: map.clone(),
            refresh: refresh.clone(),
        };
        keeper.spawn(keeping.run(guard));
        Self {
            map,
            refresh,
            _keeper: keeper,
        }
    }

    pub(super) fn lane(&self, slot: usize) -> Result<Arc<Lane>, StoreError> {
        self.map.load().lane(slot).cloned()
    }

    pub(super) fn send(&self, slot: usize, request: Request) {
        send(&self.map.load(), slot, request);
    }

    pub(super) fn by_server(&self, slots: &[usize]) -> Vec<(Lease, Vec<usize>)> {
        let map = self.map.load();
        let mut by_lane = HashMap::<u16, Vec<usize>>::new();
        for slot in slots {
            if let Some(lane) = map.slots.get(*slot) {
                by_lane.entry(*lane).or_default().push(*slot);
            }
        }
        let lease = |(lane, slots): (u16, Vec<usize>)| {
            let lane = map.lanes.get(usize::from(lane))?;
            Some((lane.lease().ok()?, slots))
        };
        by_lane.into_iter().filter_map(lease).collect()
    }

    pub(super) fn told(&self, error: &StoreError) {
        if reply::is_elsewhere(error) {
            self.refresh.notify_one();
        }
    }
}

fn send(map: &Map, slot: usize, request: Request) {
    match map.lane(slot) {
        Ok(lane) => lane.send(request),
        Err(error) => {
            // Whoever hung up does not need an answer.
            let _ = request.reply.send(Err(error));
        }
    }
}

/// Sends requests again that a node would not take.
async fn send_again(
    mut elsewhere: mpsc::UnboundedReceiver<(Request, StoreError)>,
    map: Arc<ArcSwap<Map>>,
    refresh: Arc<Notify>,
    tries: u32,
) {
    let mut waiting = Vec::new();
    while elsewhere.recv_many(&mut waiting, usize::MAX).await > 0 {
        refresh.notify_one();
        sleep(PAUSE).await;
        let map = map.load();
        for (mut request, error) in waiting.drain(..) {
            request.moved += 1;
            if request.moved > tries {
                let _ = request.reply.send(Err(error));
                continue;
            }
            let slot = slot::of(redis_key(&request.increment.counter).as_bytes());
            send(&map, usize::from(slot), request);
        }
    }
}

/// Keeps the map.
struct Keeper {
    target: Arc<Target>,
    command_timeout: Duration,
    readiness: Readiness,
    shared: Arc<Shared>,
    map: Arc<ArcSwap<Map>>,
    refresh: Arc<Notify>,
}

impl Keeper {
    async fn run(self, guard: ReadinessGuard) {
        let mut waiting = Some(guard);
        loop {
            match self.ask().await {
                Ok(shape) => {
                    let complete = shape.slots.iter().all(Option::is_some);
                    self.apply(shape);
                    if complete {
                        waiting = None;
                    } else {
                        self.wait_for(&mut waiting, "some slots have no node");
                    }
                }
                Err(why) if self.map.load().lanes.is_empty() => {
                    self.wait_for(&mut waiting, &why);
                    self.map.store(Arc::new(Map {
                        why,
                        ..Map::default()
                    }));
                }
                // What was known last is what counts: the lanes tell themselves if they are broken.
                Err(why) => tracing::debug!(%why, "the map of the Redis cluster cannot be had now"),
            }
            let _ = timeout(REFRESH, self.refresh.notified()).await;
            sleep(PAUSE / 2).await;
        }
    }

    fn wait_for(&self, waiting: &mut Option<ReadinessGuard>, why: &str) {
        let name = format!("{:?}", self.target);
        let guard = waiting.get_or_insert_with(|| self.readiness.guard(name.clone()));
        guard.rename(format!("{name}: {why}"));
    }

    /// Asks the nodes one after the other.
    async fn ask(&self) -> Result<Shape, String> {
        let map = self.map.load_full();
        let known = map.lanes.iter().filter_map(|lane| lane.node.clone());
        let mut nodes: Vec<Node> = known.collect();
        fastrand::shuffle(&mut nodes);
        nodes.extend(self.target.nodes.iter().cloned());
        let mut wrong = Vec::new();
        for node in nodes {
            match timeout(ASK_TIMEOUT, self.ask_node(&node)).await {
                Ok(Ok(shape)) => return Ok(shape),
                Ok(Err(error)) => wrong.push(format!("{node}: {error}")),
                Err(_) => wrong.push(format!("{node}: no answer")),
            }
        }
        Err(wrong.join("; "))
    }

    async fn ask_node(&self, node: &Node) -> Result<Shape, RedisError> {
        let login = &self.target.login;
        let (mut connection, _driver) = open(&self.target, node, login, ASK_TIMEOUT).await?;
        let answer: Value = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(&mut connection)
            .await?;
        Shape::read(answer, node)
    }

    /// Takes a new map; lanes to nodes that were there before go on.
    fn apply(&self, shape: Shape) {
        let old = self.map.load_full();
        let same = old.lanes.len() == shape.nodes.len()
            && old
                .lanes
                .iter()
                .zip(&shape.nodes)
                .all(|(lane, node)| lane.node.as_ref() == Some(node));
        let index = |slot: &Option<u16>| slot.unwrap_or(u16::MAX);
        let slots: Vec<u16> = shape.slots.iter().map(index).collect();
        if same && old.slots == slots {
            return;
        }
        let lane = |node: &Node| {
            let known = old
                .lanes
                .iter()
                .find(|lane| lane.node.as_ref() == Some(node));
            known.cloned().unwrap_or_else(|| {
                let seek = Seek::node(self.target.clone(), node.clone());
                Arc::new(Lane::start(
                    seek,
                    Some(node.clone()),
                    self.command_timeout,
                    self.readiness.clone(),
                    self.shared.clone(),
                ))
            })
        };
        let lanes: Vec<_> = shape.nodes.iter().map(lane).collect();
        tracing::info!(primaries = lanes.len(), "the Redis cluster has a new map");
        let why = String::new();
        self.map.store(Arc::new(Map { slots, lanes, why }));
    }
}

/// What a node says of the cluster.
struct Shape {
    nodes: Vec<Node>,
    slots: Vec<Option<u16>>,
}

impl Shape {
    /// Reads `CLUSTER SLOTS`: first slot, last slot, primary, replicas; a node without a host is the one that was asked.
    fn read(answer: Value, asked: &Node) -> Result<Self, RedisError> {
        let ranges = Vec::<Vec<Value>>::from_redis_value(answer)?;
        let mut shape = Self {
            nodes: Vec::new(),
            slots: vec![None; slot::COUNT],
        };
        for range in ranges {
            let [first, last, primary, ..] = range.as_slice() else {
                continue;
            };
            let (first, last): (usize, usize) = (
                usize::from_redis_value_ref(first)?,
                usize::from_redis_value_ref(last)?,
            );
            let Value::Array(primary) = primary else {
                continue;
            };
            let [host, port, ..] = primary.as_slice() else {
                continue;
            };
            let host = Option::<String>::from_redis_value_ref(host)?;
            let node = Node {
                host: host
                    .filter(|host| !host.is_empty() && host != "?")
                    .map_or_else(|| asked.host.clone(), String::into_boxed_str),
                port: u16::from_redis_value_ref(port)?,
            };
            let at = shape.nodes.iter().position(|known| *known == node);
            let at = at.unwrap_or_else(|| {
                shape.nodes.push(node);
                shape.nodes.len() - 1
            });
            // A cluster has at most as many nodes as slots.
            let at = u16::try_from(at).ok();
            if let Some(slots) = shape.slots.get_mut(first..=last) {
                slots.fill(at);
            }
        }
        Ok(shape)
    }
}

//! What is done to whom, and when: drawn from a seed, so that a run can be had again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::link::State;
use crate::load::Load;
use crate::mesh::{self, Mesh};

/// Harms that may overlap: the mesh has two of most parts, and this may take both of one kind.
const AT_ONCE: usize = 2;

/// What can be done to a process or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// `kill -9`, and a start some time later.
    Kill,
    /// SIGSTOP, and SIGCONT some time later.
    Freeze,
    /// Connections of a link are reset, and refused for some time.
    Cut,
    /// Nothing passes a link for some time.
    Silence,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill -9",
            Self::Freeze => "freeze",
            Self::Cut => "cut",
            Self::Silence => "silence",
        })
    }
}

/// One harm.
#[derive(Debug, Clone, Copy)]
struct Fault {
    what: &'static str,
    harm: Harm,
    /// Since the one before began.
    after: Duration,
    lasts: Duration,
}

/// All of them, in order.
#[derive(Debug)]
pub(crate) struct Schedule(Vec<Fault>);

impl Schedule {
    /// Every part and link harmed in each way so often, in an order of the seed's; with 0 rounds a selection that has each kind
    /// of part killed, and frozen or cut off.
    pub(crate) fn draw(seed: u64, rounds: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut faults = Vec::new();
        if rounds == 0 {
            let mut chosen = selection(&mut random);
            random.shuffle(&mut chosen);
            faults.extend(chosen.iter().map(|(what, harm)| Fault {
                what,
                harm: *harm,
                after: millis(&mut random, 300, 1000),
                lasts: millis(&mut random, 200, 2000),
            }));
        }
        for _ in 0..rounds {
            let mut all = everything();
            random.shuffle(&mut all);
            for (what, harm) in all {
                // Some outlast leases (3 s), sessions (5 and 6 s) and everybody's patience.
                let most = [500, 2000, 5000, 9000][random.usize(..4)];
                faults.push(Fault {
                    what,
                    harm,
                    after: millis(&mut random, 200, 3000),
                    lasts: millis(&mut random, 100, most),
                });
            }
        }
        Self(faults)
    }

    /// Does all of it, and undoes it.
    pub(crate) async fn inflict(self, mesh: &Arc<Mesh>, load: &Load) {
        let (began, room) = (Instant::now(), Arc::new(Semaphore::new(AT_ONCE)));
        let (mut under_way, of) = (JoinSet::new(), self.0.len());
        for (n, fault) in self.0.into_iter().enumerate() {
            sleep(fault.after).await;
            let place = room.clone().acquire_owned().await.expect("it stays open");
            let Fault {
                what, harm, lasts, ..
            } = fault;
            eprintln!(
                "{:7.1} s  {:>2}/{of}  {harm:<8} {what:<22} for {:.1} s   {} acknowledged",
                began.elapsed().as_secs_f64(),
                n + 1,
                lasts.as_secs_f64(),
                load.acknowledged()
            );
            let mesh = mesh.clone();
            under_way.spawn(async move {
                do_harm(&mesh, fault).await;
                drop(place);
            });
        }
        while let Some(done) = under_way.join_next().await {
            done.expect("what was harmed comes back");
        }
        // With nothing in the way the load has to go on.
        load.goes_on().await;
    }
}

async fn do_harm(mesh: &Mesh, fault: Fault) {
    match fault.harm {
        Harm::Kill => {
            let mut part = mesh.part(fault.what).await;
            part.kill().await;
            sleep(fault.lasts).await;
            part.restart().await;
        }
        Harm::Freeze => {
            let part = mesh.part(fault.what).await;
            part.freeze().await;
            sleep(fault.lasts).await;
            part.thaw();
        }
        Harm::Cut | Harm::Silence => {
            let link = mesh.link(fault.what);
            let _mine = link.harmed.lock().await;
            link.set(match fault.harm {
                Harm::Cut => State::Cut,
                _ => State::Silent,
            });
            sleep(fault.lasts).await;
            link.set(State::Open);
        }
    }
}

fn everything() -> Vec<(&'static str, Harm)> {
    let parts = Mesh::names_of_parts().into_iter();
    let links = Mesh::names_of_links().into_iter();
    let parts = parts.flat_map(|part| [(part, Harm::Kill), (part, Harm::Freeze)]);
    let links = links.flat_map(|link| [(link, Harm::Cut), (link, Harm::Silence)]);
    parts.chain(links).collect()
}

fn selection(random: &mut fastrand::Rng) -> Vec<(&'static str, Harm)> {
    let mut all = everything();
    random.shuffle(&mut all);
    let mut chosen = Vec::new();
    let kinds = [
        ("gateway", &mesh::GATEWAYS[..]),
        ("counter", &mesh::COUNTERS),
        ("analytics", &mesh::ANALYTICS),
        ("redis", &[mesh::REDIS]),
        ("kafka", &[mesh::KAFKA]),
        ("consul", &[mesh::CONSUL]),
    ];
    for (kind, parts) in kinds {
        chosen.push((parts[random.usize(..parts.len())], Harm::Kill));
        // Frozen, or one of its links harmed.
        let other = all.iter().find(|one| {
            let (what, harm) = one;
            *harm != Harm::Kill && what.contains(kind) && !chosen.contains(one)
        });
        chosen.extend(other.copied());
    }
    chosen
}

fn millis(random: &mut fastrand::Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.u64(least..=most.max(least)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule_and_a_round_has_everything() {
        let text = |seed, rounds| format!("{:?}", Schedule::draw(seed, rounds));
        assert_eq!(text(5, 2), text(5, 2));
        assert_ne!(text(5, 2), text(6, 2));
        let Schedule(faults) = Schedule::draw(5, 1);
        assert_eq!(faults.len(), everything().len());
    }

    #[test]
    fn the_short_selection_kills_each_kind_of_part() {
        for seed in 0..50 {
            let Schedule(faults) = Schedule::draw(seed, 0);
            let killed = |kind: &str| {
                let mut killed = faults.iter().filter(|fault| fault.harm == Harm::Kill);
                killed.any(|fault| fault.what.starts_with(kind))
            };
            for kind in [
                "gateway",
                "counter",
                "analytics",
                "redis",
                "kafka",
                "consul",
            ] {
                assert!(killed(kind), "{kind} with seed {seed}");
            }
            assert_eq!(faults.len(), 12, "{faults:?}");
        }
    }
}

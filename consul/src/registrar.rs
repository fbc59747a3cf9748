//! Keeps an instance registered: says how it is whenever that changes and often enough for the agent to believe it, registers
//! again when the agent has forgotten it (a restart), and deregisters at the end.
//!
//! The program never waits for it: Consul away is a state and a log line, and the registration comes when Consul does. Only
//! [`Registrar::told`] and [`Registrar::leave`] wait, for a bounded time, at the end of the program.

use std::time::Duration;

use resilience::backoff::{Backoff, Waits};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::answer::Meta;
use crate::client::{Client, within};
use crate::error::Error;
use crate::registration::{Check, Registration};
use crate::status::{StatusHandle, Turn};

/// How often the agent is asked whether it still knows an instance that it checks itself.
const LOOK: Duration = Duration::from_secs(2);
/// A TTL is renewed so many times before it would end.
const RENEWALS: u32 = 3;
const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(100), Duration::from_secs(1)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("a base above the maximum"),
};

/// How the instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vitals {
    /// It serves.
    Passing,
    /// It does not, for this reason.
    Critical(String),
}

/// A registration that is kept up. Dropped without [`Registrar::leave`], Consul learns of the end by the check.
#[derive(Debug)]
pub struct Registrar {
    client: Client,
    registration: Registration,
    task: JoinHandle<()>,
    vitals: watch::Receiver<Vitals>,
    told: watch::Receiver<Option<Vitals>>,
    status: StatusHandle,
}

impl Registrar {
    /// Registers, and goes on saying how the instance is.
    pub fn start(
        client: Client,
        registration: Registration,
        vitals: watch::Receiver<Vitals>,
    ) -> Self {
        let (tell, told) = watch::channel(None);
        let status = StatusHandle::new();
        let keeper = Keeper {
            client: client.clone(),
            registration: registration.clone(),
            vitals: vitals.clone(),
            told: tell,
            registered: false,
            status: status.clone(),
        };
        Self {
            client,
            registration,
            task: tokio::spawn(keeper.run()),
            vitals,
            told,
            status,
        }
    }

    /// How it is doing.
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// What is registered.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Waits until Consul has been told how the instance is now, at most for `patience`. False: it was not.
    pub async fn told(&mut self, patience: Duration) -> bool {
        let now = self.vitals.borrow().clone();
        let told = self.told.wait_for(|told| told.as_ref() == Some(&now));
        matches!(tokio::time::timeout(patience, told).await, Ok(Ok(_)))
    }

    /// Deregisters, in at most `patience`.
    pub async fn leave(self, patience: Duration) {
        self.task.abort();
        // Not before the task is gone: a renewal that is under way could register it again.
        let _ = self.task.await;
        let consul = self.client.address();
        let id = self.registration.id.as_str();
        let end = Instant::now() + patience;
        match within(end, self.client.deregister(&self.registration)).await {
            Ok(()) => tracing::info!(%consul, id, "deregistered"),
            Err(why) => {
                tracing::warn!(%consul, id, %why, "could not deregister: Consul will, when the check has failed for long enough");
            }
        }
    }
}

/// The task behind a [`Registrar`].
struct Keeper {
    client: Client,
    registration: Registration,
    vitals: watch::Receiver<Vitals>,
    told: watch::Sender<Option<Vitals>>,
    registered: bool,
    status: StatusHandle,
}

impl Keeper {
    async fn run(mut self) {
        let mut waits: Option<Waits> = None;
        loop {
            let vitals = self.vitals.borrow_and_update().clone();
            let pause = match self.tell(&vitals).await {
                Ok(()) => {
                    waits = None;
                    self.answered();
                    self.told.send_replace(Some(vitals));
                    self.interval()
                }
                Err(error) => {
                    self.failed(&error);
                    let waits = waits.get_or_insert_with(|| BACKOFF.waits(fastrand::Rng::new()));
                    waits.after_failure()
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                changed = self.vitals.changed() => {
                    if changed.is_err() {
                        // Nobody will say anything else any more: what was said last is kept up.
                        sleep(pause).await;
                    }
                }
            }
        }
    }

    /// Says how the instance is; registers it if the agent does not know it.
    async fn tell(&mut self, vitals: &Vitals) -> Result<(), Error> {
        if self.registered && self.renew(vitals).await? {
            return Ok(());
        }
        let (status, note) = words(vitals);
        self.client
            .register(&self.registration, status, note)
            .await?;
        let (consul, id) = (self.client.address(), self.registration.id.as_str());
        if self.registered {
            tracing::warn!(%consul, id, status, "the agent had forgotten this instance: registered again");
        } else {
            let Registration { address, port, .. } = &self.registration;
            tracing::info!(%consul, id, %address, port, status, "registered");
        }
        self.registered = true;
        self.told.send_replace(None);
        // What an agent is told at registration counts until its own check knows better, so it is told again.
        self.renew(vitals).await.map(|_| ())
    }

    /// False: the agent does not know the instance.
    async fn renew(&self, vitals: &Vitals) -> Result<bool, Error> {
        let (status, note) = words(vitals);
        if let Check::Ttl(_) = self.registration.check {
            return self.client.renew(&self.registration, status, note).await;
        }
        let already = self.told.borrow().as_ref() == Some(vitals);
        if already {
            return self.client.is_registered(&self.registration).await;
        }
        // The agent's own check comes too late for an instance that knows that it is going away.
        let reason = matches!(vitals, Vitals::Critical(_)).then_some(note);
        self.client.maintain(&self.registration, reason).await
    }

    fn interval(&self) -> Duration {
        match self.registration.check {
            Check::Ttl(ttl) => ttl / RENEWALS,
            _ => LOOK,
        }
    }

    fn answered(&self) {
        if let Turn::Back { after } = self.status.answered(0, Meta::default()) {
            let (consul, id) = (self.client.address(), self.registration.id.as_str());
            tracing::info!(%consul, id, away_for = ?after, "Consul answers again");
        }
    }

    fn failed(&self, error: &Error) {
        if let Turn::Worse = self.status.failed(error) {
            let (consul, id) = (self.client.address(), self.registration.id.as_str());
            tracing::warn!(%consul, id, why = %error, "Consul cannot be told of this instance, which serves all the same");
        }
    }
}

fn words(vitals: &Vitals) -> (&'static str, &str) {
    match vitals {
        Vitals::Passing => ("passing", "ready"),
        Vitals::Critical(why) => ("critical", why),
    }
}

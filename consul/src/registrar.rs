//! Keeps an instance registered: says how it is whenever that changes and often enough for the agent to believe it, registers
//! again when the agent has forgotten it (a restart) or when tags and weights are others, and deregisters at the end.
//!
//! The program never waits for it: Consul away is a state and a log line, and the registration comes when Consul does. Only
//! [`Registrar::told`] and [`Registrar::leave`] wait, for a bounded time, at the end of the program.

use std::time::Duration;

use resilience::backoff::{Backoff, Waits};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::answer::Meta;
use crate::client::Client;
use crate::error::Error;
use crate::registration::{Announced, Check, Registration};
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
    task: JoinHandle<()>,
    going: oneshot::Sender<()>,
    vitals: watch::Receiver<Vitals>,
    told: watch::Receiver<Option<Vitals>>,
    announced: watch::Sender<Announced>,
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
        let (announce, announced) = watch::channel(registration.announced());
        let (going, gone) = oneshot::channel();
        let status = StatusHandle::new();
        let keeper = Keeper {
            client,
            registration,
            vitals: vitals.clone(),
            told: tell,
            announced,
            registered: false,
            outdated: false,
            status: status.clone(),
        };
        Self {
            task: tokio::spawn(keeper.run(gone)),
            going,
            vitals,
            told,
            announced: announce,
            status,
        }
    }

    /// Where others are given to be announced from now on.
    pub fn announcer(&self) -> watch::Sender<Announced> {
        self.announced.clone()
    }

    /// How it is doing.
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Waits until Consul has been told how the instance is now, at most for `patience`. False: it was not.
    pub async fn told(&mut self, patience: Duration) -> bool {
        let now = self.vitals.borrow().clone();
        let told = self.told.wait_for(|told| told.as_ref() == Some(&now));
        matches!(timeout(patience, told).await, Ok(Ok(_)))
    }

    /// Deregisters, in at most `patience`.
    pub async fn leave(mut self, patience: Duration) {
        // The task ends with it; if it has ended before, there is nothing to deregister.
        let _ = self.going.send(());
        if timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!(
                "could not deregister: Consul will, when the check has failed for long enough"
            );
        }
    }
}

/// The task behind a [`Registrar`].
struct Keeper {
    client: Client,
    registration: Registration,
    vitals: watch::Receiver<Vitals>,
    told: watch::Sender<Option<Vitals>>,
    announced: watch::Receiver<Announced>,
    registered: bool,
    /// The agent knows it with other tags or weights.
    outdated: bool,
    status: StatusHandle,
}

impl Keeper {
    async fn run(mut self, mut gone: oneshot::Receiver<()>) {
        let mut waits: Option<Waits> = None;
        loop {
            let vitals = self.vitals.borrow_and_update().clone();
            let announced = self.announced.borrow_and_update().clone();
            self.outdated |= self.registration.announce(announced);
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
                left = &mut gone => {
                    // Dropped without a word: the check says the rest.
                    if left.is_ok() {
                        self.leave().await;
                    }
                    return;
                }
                () = sleep(pause) => {}
                Ok(()) = self.vitals.changed() => {}
                Ok(()) = self.announced.changed() => {}
            }
        }
    }

    async fn leave(&self) {
        if !self.registered {
            return;
        }
        let (consul, id) = (self.client.address(), self.registration.id());
        match self.client.deregister(&self.registration).await {
            Ok(()) => tracing::info!(%consul, id, "deregistered"),
            Err(why) => {
                tracing::warn!(%consul, id, %why, "could not deregister: Consul will, when the check has failed for long enough");
            }
        }
    }

    /// Says how the instance is; registers it if the agent does not know it.
    async fn tell(&mut self, vitals: &Vitals) -> Result<(), Error> {
        if self.registered && !self.outdated && self.renew(vitals).await? {
            return Ok(());
        }
        self.locate().await?;
        let (status, _) = words(vitals);
        self.client.register(&self.registration, status).await?;
        let (consul, id) = (self.client.address(), self.registration.id());
        let Announced { tags, weights } = self.registration.announced();
        let (tags, weight) = (tags.join(", "), weights.passing);
        match (self.registered, self.outdated) {
            (true, false) => {
                tracing::warn!(%consul, id, status, "the agent had forgotten this instance: registered again");
            }
            (true, true) => {
                tracing::info!(%consul, id, status, tags, weight, "registered again, with other tags or another weight");
            }
            (false, _) => tracing::info!(%consul, id, status, "registered"),
        }
        (self.registered, self.outdated) = (true, false);
        self.told.send_replace(None);
        // What an agent is told at registration counts until its own check knows better, so it is told again.
        self.renew(vitals).await.map(|_| ())
    }

    /// Finds out where the instance is, if nobody has said so.
    async fn locate(&mut self) -> Result<(), Error> {
        if self.registration.address.is_none() {
            let found = self.client.local_address().await;
            let found = found.map_err(|error| Error::Connect {
                address: self.client.address().to_string().into(),
                why: error.to_string().into(),
            });
            self.registration.address = Some(found?.to_string());
        }
        Ok(())
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
            let (consul, id) = (self.client.address(), self.registration.id());
            tracing::info!(%consul, id, away_for = ?after, "Consul answers again");
        }
    }

    fn failed(&self, error: &Error) {
        if let Turn::Worse = self.status.failed(error) {
            let (consul, id) = (self.client.address(), self.registration.id());
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

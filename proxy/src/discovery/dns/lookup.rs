//! One lookup of what a cluster asks for: from records to a list of endpoints, and how long that is true.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::model::{Address, DnsEndpoints, DnsName, Family, Labels};

use super::names::{Answer, Names, Srv};
use crate::discovery::holding::{Known, List, Listed};

/// Looks up one name again and again.
pub(super) struct Lookup {
    name: DnsName,
    names: Names,
    /// The addresses of hosts when they were last looked up, for a server that answers for one family only.
    known: BTreeMap<(Box<str>, bool), Vec<IpAddr>>,
}

/// What a lookup came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) list: List,
    /// How long it is true; `None`: for ever.
    pub(super) lives: Option<Duration>,
    /// Why the list is empty.
    pub(super) nothing: Option<String>,
}

impl Lookup {
    pub(super) fn new(asked: &DnsEndpoints) -> Self {
        Self {
            name: asked.name.clone(),
            names: Names::new(&asked.resolvers),
            known: BTreeMap::new(),
        }
    }

    /// # Errors
    /// Why there is no answer.
    pub(super) async fn look(&mut self) -> Result<Looked, String> {
        self.names.refresh()?;
        match self.name.clone() {
            DnsName::Host { address, family } => self.host(&address, family).await,
            DnsName::Srv(name) => self.srv(&name).await,
        }
    }

    async fn host(&mut self, address: &Address, family: Family) -> Result<Looked, String> {
        if let Some(at) = address.socket_addr() {
            let list = listed(BTreeSet::from([at.ip()]), at.port(), 1, &Arc::default());
            return Ok(Looked {
                list,
                lives: None,
                nothing: None,
            });
        }
        let answer = self.addresses(address.host(), family).await?;
        let nothing = answer.nothing;
        let list = listed(answer.found, address.port(), 1, &Arc::default());
        Ok(Looked {
            list,
            lives: Some(answer.lives),
            nothing,
        })
    }

    /// The addresses of a host. If one family cannot be looked up and the other can, what was known of the first still counts.
    async fn addresses(
        &mut self,
        host: &str,
        family: Family,
    ) -> Result<Answer<BTreeSet<IpAddr>>, String> {
        let families: &[bool] = match family {
            Family::Any => &[false, true],
            Family::V4 => &[false],
            Family::V6 => &[true],
        };
        if let Some(found) = self.names.in_hosts_file(host, families) {
            return Ok(found);
        }
        let (mut whole, mut failed): (Option<Answer<BTreeSet<IpAddr>>>, _) = (None, None);
        let [v4, v6] = self.names.both(host, families).await;
        for (v6, answer) in [(false, v4), (true, v6)] {
            let key = (Box::from(host), v6);
            match answer {
                None => {}
                Some(Ok(answer)) => {
                    self.known
                        .insert(key, answer.found.iter().copied().collect());
                    whole = Some(match whole {
                        None => answer,
                        Some(other) => other.and(answer),
                    });
                }
                Some(Err(why)) => failed = Some((key, why)),
            }
        }
        let Some((key, why)) = failed else {
            return whole.ok_or_else(|| "nothing was asked".to_owned());
        };
        match whole {
            Some(mut answer) if !answer.found.is_empty() => {
                answer
                    .found
                    .extend(self.known.get(&key).into_iter().flatten());
                Ok(answer)
            }
            _ => Err(why),
        }
    }

    async fn srv(&mut self, name: &str) -> Result<Looked, String> {
        let answer = self.names.srv(name).await?;
        let mut looked = Looked {
            list: List::new(),
            lives: Some(answer.lives),
            nothing: answer.nothing,
        };
        let priorities: BTreeSet<u16> = answer.found.iter().map(|srv| srv.priority).collect();
        for srv in answer.found {
            let tier = priorities.range(..srv.priority).count();
            let addresses = if srv.addresses.is_empty() {
                let found = self.addresses(&srv.target, Family::Any).await?;
                looked.lives = looked.lives.map(|lives| lives.min(found.lives));
                found.found
            } else {
                srv.addresses.iter().copied().collect()
            };
            looked.add(&srv, tier, addresses);
        }
        if looked.list.is_empty() && looked.nothing.is_none() {
            looked.nothing = Some("none of the hosts of its records has an address".to_owned());
        }
        Ok(looked)
    }
}

impl Looked {
    /// One address twice is one endpoint, in the better tier.
    fn add(&mut self, srv: &Srv, tier: usize, addresses: BTreeSet<IpAddr>) {
        let priority = u32::try_from(tier).unwrap_or(u32::MAX);
        let labels = Arc::new(Labels {
            node: Some(srv.target.trim_end_matches('.').into()),
            priority,
            ..Labels::default()
        });
        // Weight 0 is for who should hardly be picked: the least that there is.
        let weight = u32::from(srv.weight).max(1);
        for (address, one) in listed(addresses, srv.port, weight, &labels) {
            match self.list.get(&address) {
                Some(known) if known.known.labels.priority <= priority => {}
                _ => {
                    self.list.insert(address, one);
                }
            }
        }
    }
}

/// An endpoint for each address.
fn listed(addresses: BTreeSet<IpAddr>, port: u16, weight: u32, labels: &Arc<Labels>) -> List {
    let one = |ip: IpAddr| {
        let address = Address::parse(&SocketAddr::new(ip, port).to_string()).ok()?;
        let known = Known {
            weight,
            labels: Arc::clone(labels),
        };
        Some((address, Listed { known, out: None }))
    };
    addresses.into_iter().filter_map(one).collect()
}

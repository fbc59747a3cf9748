//! Names as this machine resolves them: literal `localhost` and `/etc/hosts` first, then the name servers of `/etc/resolv.conf`, or
//! those that the configuration names (without the search list, which belongs to the system's).
//!
//! Both files are read again when they have changed. Nothing is cached here: who looks up keeps to the time to live.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use mesh_config::model::Resolver;

/// How long one server may take before it is asked again.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// How long what a file or nothing at all says is believed.
const UNSAID: Duration = Duration::from_secs(5);
const SYSTEM_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Looks up names.
pub(super) struct Names {
    /// Empty: those of the system.
    resolvers: Vec<Resolver>,
    read: Option<Read>,
}

struct Read {
    /// When each of the system's files was written.
    written: [Option<SystemTime>; 2],
    resolver: TokioResolver,
    hosts: Hosts,
}

/// What a name server says, and for how long it is true.
pub(super) struct Answer<T> {
    pub(super) found: T,
    pub(super) lives: Duration,
    /// Why nothing was found.
    pub(super) nothing: Option<String>,
}

/// Where a service is.
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
    /// The addresses of the target that came along; empty: they have to be looked up.
    pub(super) addresses: Vec<IpAddr>,
}

type Addresses = Result<Answer<BTreeSet<IpAddr>>, String>;

impl Names {
    pub(super) fn new(resolvers: &[Resolver]) -> Self {
        Self {
            resolvers: resolvers.to_vec(),
            read: None,
        }
    }

    /// Reads the system's files if they have changed. A few bytes now and then: not worth a thread.
    ///
    /// # Errors
    /// Why nothing can be looked up.
    pub(super) fn refresh(&mut self) -> Result<(), String> {
        let written = SYSTEM_FILES.map(|path| Path::new(path).metadata().ok()?.modified().ok());
        if self
            .read
            .as_ref()
            .is_none_or(|read| read.written != written)
        {
            self.read = Some(Read {
                written,
                resolver: self.resolver()?,
                hosts: Hosts::from_system().unwrap_or_default(),
            });
        }
        Ok(())
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let servers = self.resolvers.iter().map(|one| {
            let (ip, port) = (one.address.ip(), one.address.port());
            let mut ways = vec![ConnectionConfig::tcp()];
            if !one.tcp {
                // What does not fit into a datagram is asked for again by TCP.
                ways.insert(0, ConnectionConfig::udp());
            }
            ways.iter_mut().for_each(|way| way.port = port);
            NameServerConfig::new(ip, true, ways)
        });
        let servers: Vec<_> = servers.collect();
        let (config, mut options) = if servers.is_empty() {
            // Without the file, the server is on this machine, says resolv.conf(5).
            system_conf::read_system_conf().unwrap_or_else(|_| {
                let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
                let config = ResolverConfig::from_name_servers(vec![local]);
                (config, ResolverOpts::default())
            })
        } else {
            let config = ResolverConfig::from_name_servers(servers);
            (config, ResolverOpts::default())
        };
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build().map_err(|error| error.to_string())
    }

    /// What this machine knows by itself: then nobody is asked, not for the other family either.
    pub(super) fn in_hosts_file(
        &self,
        host: &str,
        families: &[bool],
    ) -> Option<Answer<BTreeSet<IpAddr>>> {
        let read = self.read.as_ref()?;
        let name = Name::from_utf8(host).ok()?;
        let of = |v6: bool| -> BTreeSet<IpAddr> {
            let query = Query::query(name.clone(), record_type(v6));
            let found = read.hosts.lookup_static_host(&query);
            let found = found.as_ref().map(|found| found.answers());
            found.into_iter().flatten().filter_map(ip).collect()
        };
        let mut all = [of(false), of(true)];
        if all.iter().all(BTreeSet::is_empty) {
            let local = host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
            if !local {
                return None;
            }
            all = [
                BTreeSet::from([Ipv4Addr::LOCALHOST.into()]),
                BTreeSet::from([Ipv6Addr::LOCALHOST.into()]),
            ];
        }
        let wanted = all.into_iter().zip([false, true]);
        let wanted = wanted.filter(|(_, v6)| families.contains(v6));
        let found: BTreeSet<IpAddr> = wanted.flat_map(|(found, _)| found).collect();
        let nothing = found.is_empty();
        let nothing = nothing.then(|| "it has no address of this family in /etc/hosts".to_owned());
        Some(Answer {
            found,
            lives: UNSAID,
            nothing,
        })
    }

    /// The addresses of both families, as far as they are wanted, asked for at once.
    pub(super) async fn both(&self, host: &str, families: &[bool]) -> [Option<Addresses>; 2] {
        let one = async |v6: bool| match families.contains(&v6) {
            true => Some(self.addresses(host, v6).await),
            false => None,
        };
        let (v4, v6) = tokio::join!(one(false), one(true));
        [v4, v6]
    }

    async fn addresses(&self, host: &str, v6: bool) -> Addresses {
        let answer = self.ask(host, record_type(v6)).await?;
        Ok(Answer {
            found: answer.found.0.iter().filter_map(ip).collect(),
            lives: answer.lives,
            nothing: answer.nothing,
        })
    }

    pub(super) async fn srv(&self, name: &str) -> Result<Answer<Vec<Srv>>, String> {
        let answer = self.ask(name, RecordType::SRV).await?;
        let (answers, additionals) = &answer.found;
        let record = |record: &Record| {
            let RData::SRV(srv) = &record.data else {
                return None;
            };
            // The root as target: there is decidedly no such service.
            if srv.target.is_root() || srv.port == 0 {
                return None;
            }
            let along = additionals.iter().filter(|one| one.name == srv.target);
            Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_utf8(),
                addresses: along.filter_map(ip).collect(),
            })
        };
        Ok(Answer {
            found: answers.iter().filter_map(record).collect(),
            lives: answer.lives,
            nothing: answer.nothing,
        })
    }

    /// Answers and what came along with them.
    async fn ask(
        &self,
        name: &str,
        kind: RecordType,
    ) -> Result<Answer<(Vec<Record>, Vec<Record>)>, String> {
        let read = self.read.as_ref();
        let read = read.ok_or_else(|| "the resolver is not set up".to_owned())?;
        match read.resolver.lookup(name, kind).await {
            Ok(found) => {
                let (answers, along) = (found.answers().to_vec(), found.additionals().to_vec());
                let seconds = answers.iter().map(|record| record.ttl).min();
                let nothing = answers
                    .is_empty()
                    .then(|| format!("it has no {kind} record"));
                Ok(Answer {
                    found: (answers, along),
                    lives: Duration::from_secs(seconds.unwrap_or_default().into()),
                    nothing,
                })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let lives = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
                let code = none.response_code;
                Ok(Answer {
                    found: (Vec::new(), Vec::new()),
                    lives: lives.unwrap_or_default(),
                    nothing: Some(format!("no {kind} record: {code}")),
                })
            }
            Err(error) => Err(format!("{kind}: {error}")),
        }
    }
}

impl<T: Extend<IpAddr> + IntoIterator<Item = IpAddr>> Answer<T> {
    /// Both at once.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.nothing = self.nothing.zip(other.nothing).map(|(one, _)| one);
        // Nothing may live shorter than what was found: of the two, what can change first is looked at first.
        self.lives = self.lives.min(other.lives);
        self.found.extend(other.found);
        self
    }
}

fn record_type(v6: bool) -> RecordType {
    if v6 { RecordType::AAAA } else { RecordType::A }
}

fn ip(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

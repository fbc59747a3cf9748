//! Finding a server of Redis and logging in to it: the one that was named, or the primary among several, or the one that
//! Sentinels name.
//!
//! Sentinels may name a server that is not the primary any more, so what was found is asked for its role:
//! <https://redis.io/docs/latest/develop/reference/sentinel-clients/>

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, Value};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::target::{Form, Node, Target};
use super::tls;

const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// Time for one of several servers or Sentinels, so that a dead one does not hide the others.
const ONE_OF_SEVERAL: Duration = Duration::from_millis(600);

/// Which server to find.
#[derive(Clone)]
pub(super) struct Seek {
    target: Arc<Target>,
    /// This node of a cluster.
    node: Option<Node>,
}

/// A connection with the task that drives it.
pub(super) struct Connected {
    pub(super) node: Node,
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: JoinSet<()>,
    /// Tells this server's history of data from any other.
    pub(super) server: Arc<String>,
}

impl Seek {
    /// The primary of a target that is no cluster.
    pub(super) fn primary(target: Arc<Target>) -> Self {
        Self { target, node: None }
    }

    /// One node of a cluster.
    pub(super) fn node(target: Arc<Target>, node: Node) -> Self {
        let node = Some(node);
        Self { target, node }
    }

    /// Whether another server may have become the primary.
    pub(super) fn may_find_another(&self) -> bool {
        self.target.form != Form::One
    }

    pub(super) async fn connect(&self, command_timeout: Duration) -> Result<Connected, RedisError> {
        let target = &self.target;
        if let Some(node) = &self.node {
            return open_ready(target, node, command_timeout).await;
        }
        if let (Form::One, Some(node)) = (&target.form, target.nodes.first()) {
            return open_ready(target, node, command_timeout).await;
        }
        let mut wrong = Vec::new();
        for node in &target.nodes {
            match timeout(ONE_OF_SEVERAL, find_by(target, node, command_timeout)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => wrong.push(format!("{node}: {error}")),
                Err(_) => wrong.push(format!("{node}: no answer")),
            }
        }
        Err(failed(&wrong.join("; ")))
    }
}

impl fmt::Display for Seek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "redis+cluster node {node}"),
            None => write!(f, "{:?}", self.target),
        }
    }
}

/// The primary, by one of the nodes that were named.
async fn find_by(
    target: &Target,
    node: &Node,
    command_timeout: Duration,
) -> Result<Connected, RedisError> {
    if let Form::Sentinel(name) = &target.form {
        let primary = ask_sentinel(target, node, name).await?;
        return open_primary(target, &primary, command_timeout).await;
    }
    open_primary(target, node, command_timeout).await
}

fn failed(why: &str) -> RedisError {
    RedisError::from((ErrorKind::Io, "no primary", why.to_owned()))
}

async fn ask_sentinel(target: &Target, sentinel: &Node, name: &str) -> Result<Node, RedisError> {
    let mut opened = open(target, sentinel, &target.sentinel_login, ONE_OF_SEVERAL).await?;
    let answer: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(name)
        .query_async(&mut opened.0)
        .await?;
    let (host, port) = answer.ok_or_else(|| failed("this Sentinel does not know the name"))?;
    Ok(Node {
        host: host.into(),
        port,
    })
}

async fn open_primary(
    target: &Target,
    node: &Node,
    command_timeout: Duration,
) -> Result<Connected, RedisError> {
    let (connected, role) = open_with_role(target, node, command_timeout).await?;
    if role.replica {
        return Err(failed(&format!("{node} is a replica")));
    }
    Ok(connected)
}

async fn open_ready(
    target: &Target,
    node: &Node,
    command_timeout: Duration,
) -> Result<Connected, RedisError> {
    let (connected, _) = open_with_role(target, node, command_timeout).await?;
    Ok(connected)
}

async fn open_with_role(
    target: &Target,
    node: &Node,
    command_timeout: Duration,
) -> Result<(Connected, Role), RedisError> {
    let (mut connection, driver) = open(target, node, &target.login, command_timeout).await?;
    // Refused while Redis loads its data or wants a password.
    redis::cmd("PING").exec_async(&mut connection).await?;
    let role = role(&mut connection).await?;
    let connected = Connected {
        node: node.clone(),
        connection,
        driver,
        server: role.server.clone(),
    };
    Ok((connected, role))
}

/// What a server is.
pub(super) struct Role {
    replica: bool,
    pub(super) server: Arc<String>,
}

/// Asks a server what it is. One that does not tell is taken for a primary that never changes.
pub(super) async fn role(connection: &mut MultiplexedConnection) -> Result<Role, RedisError> {
    let answer = redis::cmd("INFO")
        .arg("replication")
        .query_async(connection)
        .await;
    let text: String = match answer {
        Ok(Value::BulkString(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(Value::VerbatimString { text, .. }) => text,
        Ok(_) => String::new(),
        Err(error) if error.code() == Some("NOPERM") => {
            tracing::warn!(
                "Redis does not let this user ask INFO: a failover that loses events cannot be told from none"
            );
            String::new()
        }
        Err(error) => return Err(error),
    };
    let field = |name: &str| {
        let line = |line: &'_ str| {
            Some(
                line.strip_prefix(name)?
                    .strip_prefix(':')?
                    .trim()
                    .to_owned(),
            )
        };
        text.lines().find_map(line)
    };
    Ok(Role {
        replica: field("role").is_some_and(|role| role == "slave"),
        server: Arc::new(field("master_replid").unwrap_or_default()),
    })
}

pub(super) async fn open(
    target: &Target,
    node: &Node,
    login: &RedisConnectionInfo,
    command_timeout: Duration,
) -> Result<(MultiplexedConnection, JoinSet<()>), RedisError> {
    let stream = TcpStream::connect((&*node.host, node.port)).await?;
    set_options(&stream)?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(command_timeout));
    let mut driver = JoinSet::new();
    let connection = match &target.tls {
        Some(choice) => {
            let stream = tls::handshake(choice, &node.host, stream).await?;
            let (connection, drive) =
                MultiplexedConnection::new_with_config(login, stream, config).await?;
            driver.spawn(drive);
            connection
        }
        None => {
            let (connection, drive) =
                MultiplexedConnection::new_with_config(login, stream, config).await?;
            driver.spawn(drive);
            connection
        }
    };
    Ok((connection, driver))
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))
}

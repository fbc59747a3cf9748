//! Where Redis is, in all the forms that people run: alone, several of which one is the primary, Sentinel, Cluster.
//!
//! `redis://[USER:PASSWORD@]HOST[:PORT][,HOST...][/DB]`, `redis+sentinel://HOST:PORT[,HOST...]/NAME[/DB]`,
//! `redis+cluster://HOST[:PORT][,HOST...]`; `rediss` instead of `redis` for TLS, with `?ca=FILE` for an authority of one's
//! own. It refuses parts and parameters that it does not know. Passwords are percent-decoded, and never shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use redis::RedisConnectionInfo;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where Redis is and how to log in.
#[derive(Clone)]
pub struct Target {
    pub(super) form: Form,
    pub(super) nodes: Vec<Node>,
    pub(super) login: RedisConnectionInfo,
    /// How to log in to Sentinels.
    pub(super) sentinel_login: RedisConnectionInfo,
    pub(super) tls: Option<TlsChoice>,
}

/// What the nodes of the URL are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// The one server.
    One,
    /// Servers of which one is the primary.
    Several,
    /// Sentinels that know the primary of this name.
    Sentinel(Box<str>),
    /// Some nodes of a cluster.
    Cluster,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Who vouches for the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TlsChoice {
    /// Authorities in this PEM file rather than those of the system.
    pub(super) ca: Option<PathBuf>,
}

impl Target {
    /// Whether counts are spread over slots.
    pub(super) fn is_cluster(&self) -> bool {
        self.form == Form::Cluster
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("not a Redis URL: write redis://HOST:PORT")?;
        let (tls, kind) = scheme_of(scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let default_port = if kind == "sentinel" {
            SENTINEL_PORT
        } else {
            PORT
        };
        let nodes = hosts
            .split(',')
            .map(|host| node(host, default_port))
            .collect::<Result<Vec<_>, _>>()?;
        let (form, database) = match kind {
            "sentinel" => sentinel(path)?,
            "cluster" if !matches!(path, "" | "0") => {
                return Err("not a Redis URL: a cluster has no numbered databases".to_owned());
            }
            "cluster" => (Form::Cluster, ""),
            _ if nodes.len() > 1 => (Form::Several, path),
            _ => (Form::One, path),
        };
        let database = match database {
            "" => 0,
            text => text
                .parse()
                .map_err(|_| format!("not a Redis URL: {text:?} is no number of a database"))?,
        };
        let mut target = Self {
            form,
            nodes,
            login: logged_in(login)?.set_db(database),
            sentinel_login: RedisConnectionInfo::default(),
            tls: tls.then(TlsChoice::default),
        };
        target.read_query(query)?;
        Ok(target)
    }
}

impl Target {
    fn read_query(&mut self, query: &str) -> Result<(), String> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            match (name, &mut self.tls) {
                ("ca", Some(tls)) => tls.ca = Some(value.into()),
                ("ca", None) => return Err("not a Redis URL: ca= is for rediss://".to_owned()),
                ("sentinel_user", _) => {
                    self.sentinel_login = self.sentinel_login.clone().set_username(value);
                }
                ("sentinel_password", _) => {
                    self.sentinel_login = self.sentinel_login.clone().set_password(value);
                }
                _ => {
                    return Err(format!(
                        "not a Redis URL: unknown parameter {name:?}; there are ca, sentinel_user and sentinel_password"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether it is TLS, and which form.
fn scheme_of(scheme: &str) -> Result<(bool, &str), String> {
    let unknown = || {
        format!(
            "not a Redis URL: {scheme}:// is neither redis://, redis+sentinel:// nor redis+cluster:// (rediss for TLS)"
        )
    };
    let (first, kind) = scheme.split_once(['+', '-']).unwrap_or((scheme, ""));
    let tls = match first {
        "redis" => false,
        "rediss" => true,
        _ => return Err(unknown()),
    };
    match kind {
        "" | "sentinel" | "cluster" => Ok((tls, kind)),
        _ => Err(unknown()),
    }
}

/// The primary's name and the database, of the path.
fn sentinel(path: &str) -> Result<(Form, &str), String> {
    let (name, database) = path.split_once('/').unwrap_or((path, ""));
    if name.is_empty() {
        return Err(
            "not a Redis URL: name the primary that the Sentinels watch: redis+sentinel://HOST:PORT/NAME"
                .to_owned(),
        );
    }
    Ok((Form::Sentinel(decoded(name)?.into()), database))
}

fn node(text: &str, default_port: u16) -> Result<Node, String> {
    let wrong = || "not a Redis URL: write redis://HOST:PORT".to_owned();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None => default_port,
    };
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(Node {
        host: host.into(),
        port,
    })
}

/// `USER:PASSWORD`, `:PASSWORD` or `USER`.
fn logged_in(login: Option<&str>) -> Result<RedisConnectionInfo, String> {
    let mut info = RedisConnectionInfo::default();
    let Some(login) = login else {
        return Ok(info);
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    if !user.is_empty() {
        info = info.set_username(decoded(user)?);
    }
    if let Some(password) = password {
        info = info.set_password(decoded(password)?);
    }
    Ok(info)
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err("not a Redis URL: % must be followed by two hexadecimal digits".to_owned());
        };
        // Two digits make a byte.
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| "not a Redis URL: it is not UTF-8".to_owned())
}

/// Without what may be a password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        f.write_str(scheme)?;
        f.write_str(match self.form {
            Form::Sentinel(_) => "+sentinel",
            Form::Cluster => "+cluster",
            _ => "",
        })?;
        for (at, node) in self.nodes.iter().enumerate() {
            write!(f, "{}{node}", if at == 0 { "://" } else { "," })?;
        }
        match &self.form {
            Form::Sentinel(name) => write!(f, "/{name}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_forms_are_read_and_shown_without_passwords() {
        for (url, shown) in [
            ("redis://h", "redis://h:6379"),
            ("redis://app:p%40ss@h:1/3", "redis://h:1"),
            ("redis://[::1]:7", "redis://[::1]:7"),
            ("redis://:secret@a:1,b:2", "redis://a:1,b:2"),
            ("rediss://h?ca=/etc/ca.pem", "rediss://h:6379"),
            (
                "redis+sentinel://:secret@a,b:2/main/1",
                "redis+sentinel://a:26379,b:2/main",
            ),
            ("redis-sentinel://a:1/main", "redis+sentinel://a:1/main"),
            ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2"),
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!(format!("{target:?}"), shown);
        }
        let target: Target = "redis://app:p%40ss@h".parse().unwrap();
        let login = (target.login.username(), target.login.password());
        assert_eq!(login, (Some("app"), Some("p@ss")));
    }

    #[test]
    fn what_is_no_url_is_refused_with_its_reason() {
        for (url, why) in [
            ("redis", "write redis://HOST:PORT"),
            ("redis://", "write redis://HOST:PORT"),
            ("redis://h:port", "write redis://HOST:PORT"),
            ("redis://h/main", "no number of a database"),
            ("redis+sentinel://h", "name the primary"),
            ("redis+cluster://h/1", "no numbered databases"),
            ("redis+file://h", "neither redis://"),
            ("redis://h?ca=x", "is for rediss://"),
            ("redis://h?verbose=1", "unknown parameter"),
            ("redis://%zz@h", "hexadecimal"),
        ] {
            let error = url.parse::<Target>().unwrap_err();
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}

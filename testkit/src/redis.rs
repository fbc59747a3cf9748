//! A real `redis-server` of one's own: on a free port, in a directory that goes away, acknowledged writes on disk.
//!
//! It can be killed, frozen and started again on the same port with the same data.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::program::{Program, Running};
use crate::wait::{PATIENCE, eventually};

/// A Redis server. Killed when dropped.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    directory: TempDir,
    server: Option<Running>,
}

impl Redis {
    /// An address and a directory, but no server yet.
    ///
    /// # Panics
    /// When the machine has no port or no disk.
    pub fn stopped() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let directory = tempfile::tempdir().expect("a directory");
        Self {
            address,
            directory,
            server: None,
        }
    }

    /// A server that answers.
    pub async fn start() -> Self {
        let mut redis = Self::stopped();
        redis.restart().await;
        redis
    }

    /// Starts the server, again or for the first time, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn restart(&mut self) {
        let port = self.address.port().to_string();
        let program = Program::at("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", ""])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--enable-debug-command",
                "yes",
            ])
            .arg("--dir")
            .arg(self.directory.path());
        self.server = Some(program.spawn());
        let ping = async || match self.try_command(&["PING"]).await {
            Ok(answer) if answer == "+PONG" => Ok(()),
            Ok(other) => Err(other),
            Err(error) => Err(error.to_string()),
        };
        eventually("Redis to answer PING", PATIENCE, ping).await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
    }

    /// Stops it where it stands; it keeps its connections and answers nothing.
    pub async fn freeze(&self) {
        self.server().freeze().await;
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.server().thaw();
    }

    /// Runs one command and gives the first line of its answer, or the text of a bulk string.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn command(&self, words: &[&str]) -> String {
        self.try_command(words).await.expect("Redis answers")
    }

    async fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        request.push_str("*1\r\n$4\r\nQUIT\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let answer = answer.strip_suffix("+OK\r\n").unwrap_or(&answer);
        let (first, rest) = answer.split_once("\r\n").unwrap_or((answer, ""));
        let bulk = first.starts_with('$') && first != "$-1";
        Ok(if bulk {
            rest.trim_end_matches("\r\n").to_owned()
        } else {
            first.to_owned()
        })
    }

    fn server(&self) -> &Running {
        self.server.as_ref().expect("the server was started")
    }
}

//! A small HTTP/1.1 client over one connection: sends exactly what it is told, byte for byte if need be, and reads
//! answers strictly.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::json;
use crate::wait::{PATIENCE, within};

/// One connection.
#[derive(Debug)]
pub struct Http1 {
    stream: TcpStream,
    address: SocketAddr,
    // Read from the socket but not yet part of an answer that was given out.
    unread: Vec<u8>,
}

/// An answer, its body complete and without chunk marks.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields in the order in which they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> Value {
        json::parse(&self.body)
    }
}

impl Http1 {
    /// Opens a connection.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within(
            &format!("a connection to {address}"),
            PATIENCE,
            TcpStream::connect(address),
        )
        .await;
        let stream = stream.unwrap_or_else(|why| panic!("cannot connect to {address}: {why}"));
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self {
            stream,
            address,
            unread: Vec::new(),
        }
    }

    /// `GET path`.
    pub async fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[], None).await
    }

    /// `POST path` with a JSON body.
    pub async fn post_json(&mut self, path: &str, body: &Value) -> Response {
        self.post_text(path, &body.to_string()).await
    }

    /// `POST path` with a body that is said to be JSON.
    pub async fn post_text(&mut self, path: &str, body: &str) -> Response {
        self.request(
            "POST",
            path,
            &[("content-type", "application/json")],
            Some(body.as_bytes()),
        )
        .await
    }

    /// A request with the usual headers and these.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Response {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            text += &format!("content-length: {}\r\n", body.len());
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        self.send(&bytes).await;
        self.response(method == "HEAD").await
    }

    /// Sends bytes as they are. A peer that has closed its side is no error here: its answer may still be read.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sent = within(
            &format!("{} to take {} bytes", self.address, bytes.len()),
            PATIENCE,
            self.stream.write_all(bytes),
        )
        .await;
        drop(sent);
    }

    /// Reads the next final answer (1xx ones are passed over).
    ///
    /// # Panics
    /// When none comes, or it is not HTTP/1.1.
    pub async fn response(&mut self, head_only: bool) -> Response {
        loop {
            let answer = self.try_response(head_only).await;
            let answer =
                answer.unwrap_or_else(|| panic!("{} closed without an answer", self.address));
            if answer.status >= 200 {
                return answer;
            }
        }
    }

    /// Reads the next answer; `None` if the peer closes or resets the connection instead.
    ///
    /// # Panics
    /// When neither happens in time, or the answer is not HTTP/1.1.
    pub async fn try_response(&mut self, head_only: bool) -> Option<Response> {
        let mut response = self.head().await?;
        let status = response.status;
        let bodyless = head_only || status < 200 || status == 204 || status == 304;
        if !bodyless {
            response.body = self.body(&response).await;
        }
        Some(response)
    }

    /// Reads the head of the next answer; `None` if the peer closes instead.
    ///
    /// # Panics
    /// When neither happens in time, or it is not HTTP/1.1.
    pub async fn head(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill().await == 0 {
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let (status, headers) = parse_head(std::str::from_utf8(&head).expect("a head is text"));
        Some(Response {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// Reads the next chunk of a body that comes in chunks; `None` after the last.
    ///
    /// # Panics
    /// When the peer closes first, or it is none.
    pub async fn chunk(&mut self) -> Option<String> {
        let line = self.line().await;
        let size =
            usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
        let chunk = self.take(size).await;
        assert_eq!(self.line().await, "", "a chunk ends with a line break");
        (size > 0).then(|| String::from_utf8_lossy(&chunk).into_owned())
    }

    /// Sends a piece of a body as a chunk; an empty one ends it.
    pub async fn send_chunk(&mut self, piece: &str) {
        self.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
            .await;
    }

    /// Reads that many bytes of whatever comes.
    ///
    /// # Panics
    /// When the peer closes first.
    pub async fn read(&mut self, length: usize) -> Vec<u8> {
        self.take(length).await
    }

    /// Waits for the peer to close; panics if it sends something or keeps the connection open.
    ///
    /// # Panics
    /// See above.
    pub async fn expect_close(&mut self) {
        let read = self.fill().await;
        assert_eq!(
            read,
            0,
            "expected a close, got {:?}",
            String::from_utf8_lossy(&self.unread)
        );
    }

    async fn body(&mut self, head: &Response) -> Vec<u8> {
        if head
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            return self.chunks().await;
        }
        match head.header("content-length") {
            Some(length) => {
                self.take(length.parse().expect("content-length is a number"))
                    .await
            }
            None => {
                while self.fill().await > 0 {}
                std::mem::take(&mut self.unread)
            }
        }
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
            body.extend(self.take(size).await);
            if size == 0 {
                while !self.line().await.is_empty() {}
                return body;
            }
            assert_eq!(self.line().await, "", "a chunk ends with a line break");
        }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                let line = self.take(at + 2).await;
                return String::from_utf8_lossy(&line[..at]).into_owned();
            }
            assert!(
                self.fill().await > 0,
                "{} closed inside a chunked body",
                self.address
            );
        }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            let got = self.fill().await;
            assert!(
                got > 0,
                "{} closed {} bytes before the end",
                self.address,
                length - self.unread.len()
            );
        }
        self.unread.drain(..length).collect()
    }

    /// Reads more; 0 at the end, which a reset is too.
    async fn fill(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.unread);
        within(&format!("an answer from {}", self.address), PATIENCE, read)
            .await
            .unwrap_or(0)
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn parse_head(head: &str) -> (u16, Vec<(String, String)>) {
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
    let headers = lines.map(|line| {
        let (name, value) = line
            .split_once(':')
            .unwrap_or_else(|| panic!("not a header: {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    (status, headers.collect())
}

//! Asks the admin port of a running gateway: one small GET, answered whole.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::explain::Question;

const PATIENCE: Duration = Duration::from_secs(5);
/// An explanation is a page of text; more than this is something else.
const MAX_ANSWER: u64 = 4 << 20;

/// What the gateway behind an admin URL says of a request.
pub(super) fn running(admin: &str, question: &Question) -> Result<String, String> {
    let host = admin
        .strip_prefix("http://")
        .unwrap_or(admin)
        .trim_end_matches('/');
    let answer = get(host, &format!("/explain?{}", question.to_query()))
        .map_err(|error| format!("cannot ask {admin}: {error}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("{admin} did not answer HTTP"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        Ok(body.to_owned())
    } else {
        Err(format!("{admin} answered {status}: {body}"))
    }
}

fn get(host: &str, target: &str) -> std::io::Result<String> {
    let address = host
        .to_socket_addrs()?
        .next()
        .ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer ends with the connection, so there is no framing to read.
    write!(stream, "GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

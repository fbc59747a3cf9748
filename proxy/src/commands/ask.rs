//! Asks the admin port of a running gateway: one small request, answered whole.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

use super::Failure;
use crate::cli::AdminUrl;
use crate::explain::Question;

const PATIENCE: Duration = Duration::from_secs(5);
/// An explanation is a page of text; more than this is something else.
const MAX_ANSWER: u64 = 4 << 20;

/// An answer of an admin port.
struct Answer {
    status: String,
    body: String,
}

/// What the gateway behind an admin URL says of a request.
pub(super) fn running(admin: &AdminUrl, question: &Question) -> Result<String, Failure> {
    let answer = ask(
        admin,
        "GET",
        &format!("/explain?{}", question.to_query()),
        "",
    )?;
    match answer.status.as_str() {
        "200" => Ok(answer.body),
        _ => Err(answer.failure(admin)),
    }
}

/// The switches by hand, a line each.
pub(super) fn switches(admin: &AdminUrl) -> Result<String, Failure> {
    let answer = ask(admin, "GET", "/switch", "")?;
    shown(admin, &answer)
}

/// Switches a route to a cluster, or back if there is none; then the switches that there are.
pub(super) fn switch(
    admin: &AdminUrl,
    route: &str,
    cluster: Option<&str>,
) -> Result<String, Failure> {
    let wanted = json!({ "route": route, "cluster": cluster }).to_string();
    let answer = ask(admin, "POST", "/switch", &wanted)?;
    if matches!(answer.status.as_str(), "400" | "404" | "409") {
        return Err(Failure::Usage(answer.error()));
    }
    shown(admin, &answer)
}

fn shown(admin: &AdminUrl, answer: &Answer) -> Result<String, Failure> {
    let list: Option<Value> = serde_json::from_str(&answer.body).ok();
    let Some(Value::Array(switches)) = list.filter(|_| answer.status == "200") else {
        return Err(answer.failure(admin));
    };
    if switches.is_empty() {
        return Ok("no route is switched by hand\n".to_owned());
    }
    let line = |switch: &Value| {
        let text = |key: &str| switch[key].as_str().unwrap_or_default().to_owned();
        let (route, cluster, since) = (text("route"), text("cluster"), text("since"));
        match switch["why_not"].as_str() {
            None => format!("{route} -> {cluster} since {since}\n"),
            Some(why) => format!("{route} -> {cluster} since {since}, without effect: {why}\n"),
        }
    };
    Ok(switches.iter().map(line).collect())
}

impl Answer {
    /// What a JSON body says is wrong, or the body.
    fn error(&self) -> String {
        let value: Option<Value> = serde_json::from_str(&self.body).ok();
        let error = value.and_then(|value| Some(value["error"].as_str()?.to_owned()));
        error.unwrap_or_else(|| self.body.clone())
    }

    fn failure(&self, admin: &AdminUrl) -> Failure {
        Failure::Failed(format!(
            "{admin} answered {}: {}",
            self.status,
            self.error()
        ))
    }
}

fn ask(admin: &AdminUrl, method: &str, target: &str, body: &str) -> Result<Answer, Failure> {
    let answer = exchange(admin.authority(), method, target, body)
        .map_err(|error| Failure::Failed(format!("cannot ask {admin}: {error}")))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| Failure::Failed(format!("{admin} did not answer HTTP")))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok(Answer {
        status: status.to_owned(),
        body: body.to_owned(),
    })
}

fn exchange(host: &str, method: &str, target: &str, body: &str) -> io::Result<String> {
    let address = host
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer ends with the connection, so there is no framing to read.
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json, text/plain\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

//! Which log a topic is: the id that it got when it was made, another one if it is made anew under the same name.
//!
//! The client library's crate does not tell it, so this one request is made by hand, over a connection of its own: Metadata,
//! version 10, which brokers since 2.8 speak (KIP-516, <https://kafka.apache.org/protocol>). Where nobody tells, only offsets do.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use crate::source::Log;

const METADATA: i16 = 3;
const VERSION: i16 = 10;
const CLIENT: &str = "highpress-analytics";
/// Far more than the metadata of one topic takes.
const LONGEST: usize = 16 << 20;

/// Asks brokers for the id of a topic.
#[derive(Debug)]
pub(super) struct LogId {
    brokers: Vec<String>,
    topic: String,
    connection: Option<TcpStream>,
}

impl LogId {
    /// Brokers as `HOST:PORT,…`.
    pub(super) fn new(brokers: &str, topic: &str) -> Self {
        Self {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            topic: topic.to_owned(),
            connection: None,
        }
    }

    /// The id, as 32 hexadecimal digits, and how many partitions there are; `None` if there is no topic, or nobody tells.
    pub(super) fn ask(&mut self, patience: Duration) -> Option<Log> {
        if self.connection.is_none() {
            let mut brokers = self.brokers.iter();
            self.connection = brokers.find_map(|broker| connect(broker, patience).ok());
        }
        let connection = self.connection.as_mut()?;
        match exchange(connection, &self.topic) {
            Ok(log) => log,
            Err(error) => {
                tracing::debug!(%error, "Kafka does not tell the topic's id");
                self.connection = None;
                None
            }
        }
    }
}

fn connect(broker: &str, patience: Duration) -> Result<TcpStream> {
    let mut last = Error::from(ErrorKind::NotFound);
    for address in broker.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(connection: &mut TcpStream, topic: &str) -> Result<Option<Log>> {
    let request = request(topic);
    let length = i32::try_from(request.len()).map_err(Error::other)?;
    connection.write_all(&[&length.to_be_bytes()[..], &request].concat())?;
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(Error::other)?;
    if length > LONGEST {
        return Err(Error::from(ErrorKind::InvalidData));
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer)?;
    log(&mut Reader(&answer)).ok_or_else(|| Error::from(ErrorKind::InvalidData))
}

fn request(topic: &str) -> Vec<u8> {
    let mut request = Vec::with_capacity(64 + topic.len());
    request.extend(METADATA.to_be_bytes());
    request.extend(VERSION.to_be_bytes());
    // The correlation id: there is one request at a time.
    request.extend(0_i32.to_be_bytes());
    request.extend(19_i16.to_be_bytes());
    request.extend(CLIENT.as_bytes());
    request.push(0);
    // One topic, by name.
    request.push(2);
    request.extend([0; 16]);
    let mut length = topic.len() + 1;
    while length >= 0x80 {
        // The seven low bits, and that more follow.
        request.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    request.push(length as u8);
    request.extend(topic.as_bytes());
    // No fields that are tagged; it is not to be made; no rights are asked for, of neither cluster nor topic; no tagged fields.
    request.extend([0, 0, 0, 0, 0]);
    request
}

/// What an answer says; the outer `None`: it is no answer to this.
fn log(answer: &mut Reader<'_>) -> Option<Option<Log>> {
    // The correlation id, tagged fields, how long the broker held the request back.
    answer.take(4)?;
    answer.tags()?;
    answer.take(4)?;
    for _ in 1..answer.number()? {
        answer.take(4)?;
        answer.text()?;
        answer.take(4)?;
        answer.text()?;
        answer.tags()?;
    }
    answer.text()?;
    answer.take(4)?;
    if answer.number()? < 2 {
        return None;
    }
    let error = answer.take(2)?;
    answer.text()?;
    let id = answer.take(16)?;
    // Whether it is one of Kafka's own.
    answer.take(1)?;
    let partitions = u32::try_from(answer.number()?.saturating_sub(1)).ok()?;
    let known = error == [0, 0] && id.iter().any(|byte| *byte != 0);
    Some(known.then(|| Log {
        id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        partitions,
    }))
}

/// What is left of an answer.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let byte = usize::from(*self.take(1)?.first()?);
            number |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A string that may be absent.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.saturating_sub(1))
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.number()? {
            self.number()?;
            let length = self.number()?;
            self.take(length)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A broker, a cluster's name, one topic.
    fn answer(error: u8, id: u8) -> Vec<u8> {
        let mut answer = vec![0, 0, 0, 0, 0, 0, 0, 0, 0];
        answer.extend([2, 0, 0, 0, 1, 2, b'h', 0, 0, 0, 1, 0, 1, 0, 1, 9]);
        answer.extend([2, b'c', 0, 0, 0, 1, 2, 0, error, 2, b't']);
        answer.extend([id; 16]);
        answer.extend([0, 5]);
        answer
    }

    #[test]
    fn an_id_is_read_behind_brokers_and_tagged_fields() {
        let of = |answer: &[u8]| log(&mut Reader(answer));
        let told = Log {
            id: "ab".repeat(16),
            partitions: 4,
        };
        assert_eq!(of(&answer(0, 0xab)), Some(Some(told)));
        assert_eq!(of(&answer(0, 0)), Some(None), "a broker that has no ids");
        assert_eq!(of(&answer(3, 0xab)), Some(None), "no such topic");
        let whole = answer(0, 0xab);
        for end in 0..whole.len() {
            assert_eq!(of(&whole[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn a_long_name_has_a_long_length() {
        let name = "t".repeat(249);
        let request = request(&name);
        let at = request.windows(2).position(|two| two == [0xfa, 0x01]);
        assert_eq!(&request[at.unwrap() + 2..][..249], name.as_bytes());
    }
}

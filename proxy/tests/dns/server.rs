//! A name server that answers what a test wants, by UDP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// What it does with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Answer,
    ServFail,
    Silent,
}

struct State {
    mood: Mood,
    records: BTreeMap<String, Vec<(u32, RData)>>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    asked: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Answer,
            records: BTreeMap::new(),
        }));
        let asked = Arc::new(AtomicUsize::new(0));
        let (shared, count) = (state.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                    return;
                };
                count.fetch_add(1, Relaxed);
                let answer = shared.lock().answer(&buffer[..length]);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self {
            address,
            state,
            asked,
            task: task.abort_handle(),
        }
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.state.lock().mood = mood;
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }

    /// The addresses of a name from now on; none: there is no such name.
    pub(crate) fn host(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        let data = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => RData::A((*ip).into()),
            IpAddr::V6(ip) => RData::AAAA((*ip).into()),
        };
        let records = addresses.iter().map(|ip| (ttl, data(ip))).collect();
        self.put(name, records);
    }

    /// `(priority, weight, port, target)`, each.
    pub(crate) fn srv(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let data = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let target = Name::from_utf8(target).expect("a name");
            RData::SRV(SRV::new(*priority, *weight, *port, target))
        };
        self.put(name, records.iter().map(|one| (ttl, data(one))).collect());
    }

    fn put(&self, name: &str, records: Vec<(u32, RData)>) {
        let mut state = self.state.lock();
        if records.is_empty() {
            state.records.remove(name);
        } else {
            state.records.insert(name.to_owned(), records);
        }
    }
}

impl State {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.add_query(query.clone());
        match self.mood {
            Mood::Silent => return None,
            Mood::ServFail => answer.metadata.response_code = ResponseCode::ServFail,
            Mood::Answer => {
                let name = query.name().to_utf8();
                match self.records.get(name.trim_end_matches('.')) {
                    None => answer.metadata.response_code = ResponseCode::NXDomain,
                    Some(records) => {
                        let wanted: RecordType = query.query_type();
                        let of = records
                            .iter()
                            .filter(|(_, data)| data.record_type() == wanted);
                        answer.add_answers(of.map(|(ttl, data)| {
                            Record::from_rdata(query.name().clone(), *ttl, data.clone())
                        }));
                    }
                }
            }
        }
        answer.to_vec().ok()
    }
}

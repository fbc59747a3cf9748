//! The HTTP/1.1 driver: one thread, one epoll, no framework.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use memchr::memmem::Finder;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::thread::set_current_timer_slack;

use crate::answer;
use crate::report::Report;
use crate::workload::Workload;

/// What a run is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) target: SocketAddr,
    pub(crate) requests: u64,
    pub(crate) connections: usize,
    pub(crate) rate: Option<u32>,
    pub(crate) expect: &'a [u8],
    pub(crate) patience: Duration,
}

/// Runs the plan over HTTP/1.1.
pub(crate) fn run(plan: &Plan<'_>, workload: &Workload) -> anyhow::Result<Report> {
    // Waits below a millisecond are meant as they are said.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    let mut engine = Engine::new(plan, workload)?;
    engine.drive()?;
    Ok(engine.report)
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    /// How much of it need not be looked at again.
    seen: usize,
    /// When the request that is under way was due.
    due: Option<Instant>,
}

struct Engine<'a> {
    plan: &'a Plan<'a>,
    requests: Vec<Vec<u8>>,
    /// Which of them is next.
    turn: usize,
    expect: Finder<'a>,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    /// Due, but no connection was free yet.
    waiting: VecDeque<Instant>,
    /// How many requests have become due.
    issued: u64,
    started: Instant,
    report: Report,
}

impl<'a> Engine<'a> {
    fn new(plan: &'a Plan<'a>, workload: &Workload) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let open = |index| connect(plan.target, &epoll, index);
        let connections = (0..plan.connections)
            .map(open)
            .collect::<io::Result<Vec<_>>>();
        let connections =
            connections.with_context(|| format!("cannot connect to {}", plan.target))?;
        Ok(Self {
            plan,
            requests: workload.http1(plan.target),
            turn: 0,
            expect: Finder::new(plan.expect),
            epoll,
            idle: (0..plan.connections).rev().collect(),
            connections,
            waiting: VecDeque::new(),
            issued: 0,
            started: Instant::now(),
            report: Report::new()?,
        })
    }

    fn drive(&mut self) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(self.plan.connections.min(256));
        self.started = Instant::now();
        while self.report.ended() < self.plan.requests {
            let wait = self.dispatch()?;
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&wait),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                self.readable(index)?;
            }
            if self.started.elapsed() > self.plan.patience {
                bail!(
                    "{} of {} requests answered when the time was up",
                    self.report.ended(),
                    self.plan.requests
                );
            }
        }
        self.report.finish(self.started.elapsed());
        Ok(())
    }

    /// Sends what is due; returns how long nothing more will be.
    fn dispatch(&mut self) -> anyhow::Result<Timespec> {
        let mut wait = Duration::from_millis(100);
        match self.plan.rate {
            None => {
                while self.issued < self.plan.requests && !self.idle.is_empty() {
                    self.issued += 1;
                    self.send(Instant::now())?;
                }
            }
            Some(rate) => {
                let now = Instant::now();
                while self.issued < self.plan.requests {
                    let due = self.started + Duration::from_secs(self.issued) / rate;
                    if due > now {
                        wait = wait.min(due - now);
                        break;
                    }
                    self.issued += 1;
                    self.waiting.push_back(due);
                }
                while let (Some(due), false) = (self.waiting.front().copied(), self.idle.is_empty())
                {
                    self.waiting.pop_front();
                    self.send(due)?;
                }
            }
        }
        Ok(Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        })
    }

    /// Sends the next request on an idle connection, of which there is one.
    fn send(&mut self, due: Instant) -> anyhow::Result<()> {
        let Some(index) = self.idle.pop() else {
            return Ok(());
        };
        let request = &self.requests[self.turn];
        self.turn = (self.turn + 1) % self.requests.len();
        let connection = &mut self.connections[index];
        connection.due = Some(due);
        // One small request at a time always fits into the socket's buffer.
        match connection.stream.write(request) {
            Ok(written) if written == request.len() => Ok(()),
            Ok(_) => self.broken(index, "request written in part"),
            Err(why) => self.broken(index, &format!("write: {}", why.kind())),
        }
    }

    fn readable(&mut self, index: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        let filled = connection.read.len();
        connection.read.resize(filled + 16 * 1024, 0);
        let read = connection.stream.read(&mut connection.read[filled..]);
        connection
            .read
            .truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => self.broken(index, "closed"),
            Ok(_) => self.answered(index),
            Err(why) if why.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(why) => self.broken(index, &format!("read: {}", why.kind())),
        }
    }

    fn answered(&mut self, index: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        let Some(due) = connection.due else {
            return self.broken(index, "an answer to nothing");
        };
        let answer = match answer::find(&connection.read, &mut connection.seen) {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(()),
            Err(_) => return self.broken(index, "not HTTP/1.1"),
        };
        if answer.end != connection.read.len() {
            return self.broken(index, "more than one answer");
        }
        let body = &connection.read[answer.body..answer.end];
        if answer.status != 200 {
            self.report.failed(format!("status {}", answer.status));
        } else if self.expect.find(body).is_none() {
            self.report.failed("unexpected body");
        } else {
            self.report.answered(due.elapsed(), body.len());
        }
        connection.due = None;
        connection.read.clear();
        connection.seen = 0;
        if answer.close {
            self.connections[index] = connect(self.plan.target, &self.epoll, index)?;
        }
        self.idle.push(index);
        Ok(())
    }

    /// Counts what was under way as failed, and opens the connection again.
    fn broken(&mut self, index: usize, why: &str) -> anyhow::Result<()> {
        if self.connections[index].due.is_some() {
            self.report.failed(why);
            self.idle.push(index);
        }
        self.connections[index] = connect(self.plan.target, &self.epoll, index)?;
        Ok(())
    }
}

/// Dropping the connection before takes it out of the epoll set.
fn connect(target: SocketAddr, epoll: &OwnedFd, index: usize) -> io::Result<Connection> {
    let stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let data = epoll::EventData::new_u64(index as u64);
    epoll::add(epoll, &stream, data, epoll::EventFlags::IN)?;
    Ok(Connection {
        stream,
        read: Vec::with_capacity(32 * 1024),
        seen: 0,
        due: None,
    })
}

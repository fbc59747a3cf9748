//! A load generator that costs little itself, so that what it measures is the gateway.
//!
//! Closed loop: a fixed number of requests, each connection sends the next one when it has its answer. Open loop
//! (`--rate`): requests are due at evenly spaced moments and latency counts from the moment a request was due, so a slow
//! server cannot hide by slowing the generator down. One thread; every answer's status and content are checked. It stops
//! by itself when all requests are answered, so what the server counted can be compared with what was answered.

#![allow(clippy::disallowed_types, reason = "it measures real time")]

mod answer;
mod engine;
mod h2c;
mod report;
mod workload;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use workload::{Kind, Workload};

/// Sends counter requests to a gateway and prints one JSON object about them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to connect.
    #[arg(long, default_value = "127.0.0.1:8080")]
    target: SocketAddr,
    /// What to send.
    #[arg(long, value_enum, default_value = "increment")]
    workload: Kind,
    /// How many requests, exactly.
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
    /// How many connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests per second, evenly spaced; as fast as answers come if absent.
    #[arg(long)]
    rate: Option<u32>,
    /// HTTP/2 by prior knowledge, with so many streams on each connection.
    #[arg(long, conflicts_with = "rate")]
    streams: Option<usize>,
    /// How the resource ids begin.
    #[arg(long, default_value = "load")]
    prefix: String,
    /// How many counters the requests go to in turn.
    #[arg(long, default_value_t = 10)]
    counters: usize,
    /// How many counters a batch reads.
    #[arg(long, default_value_t = 50)]
    items: usize,
    /// What every good answer's body contains; by default what the workload's answers end in.
    #[arg(long)]
    expect: Option<String>,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(clean) => ExitCode::from(u8::from(!clean)),
        Err(why) => {
            eprintln!("load: {why:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let workload = Workload::new(
        arguments.workload,
        &arguments.prefix,
        arguments.counters,
        arguments.items,
    );
    let patience = Duration::from_secs(arguments.patience);
    let expected = arguments.expect.as_deref();
    let plan = engine::Plan {
        target: arguments.target,
        requests: arguments.requests,
        connections: arguments.connections,
        rate: arguments.rate,
        expect: expected.unwrap_or(arguments.workload.expected()).as_bytes(),
        patience,
    };
    let report = match arguments.streams {
        Some(streams) => h2c::run(&plan, streams, &workload)?,
        None => engine::run(&plan, &workload)?,
    };
    println!("{}", report.json());
    Ok(report.clean())
}

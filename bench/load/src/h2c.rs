//! The HTTP/2 driver: connections by prior knowledge, with a fixed number of streams on each, as fast as answers come.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use memchr::memmem;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use crate::engine::Plan;
use crate::report::Report;
use crate::workload::Workload;

struct Run {
    requests: Vec<(Request<()>, Bytes)>,
    expect: Vec<u8>,
    left: Cell<u64>,
    report: RefCell<Report>,
}

/// Runs the plan over HTTP/2.
pub(crate) fn run(plan: &Plan<'_>, streams: usize, workload: &Workload) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let driving = tokio::time::timeout(plan.patience, drive(plan, streams, workload));
        driving
            .await
            .context("the time was up before all requests were answered")?
    })
}

async fn drive(plan: &Plan<'_>, streams: usize, workload: &Workload) -> anyhow::Result<Report> {
    let run = Rc::new(Run {
        requests: requests(plan, workload)?,
        expect: plan.expect.to_vec(),
        left: Cell::new(plan.requests),
        report: RefCell::new(Report::new()?),
    });
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(plan.target).await?;
        stream.set_nodelay(true)?;
        // One read brings more small messages of a stream than the default lets wait.
        let mut builder = h2::client::Builder::new();
        let (sender, connection) = builder
            .data_frame_budget(64 << 20)
            .handshake(stream)
            .await?;
        tokio::task::spawn_local(connection);
        connections.push(sender);
    }
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for sender in &connections {
        for _ in 0..streams {
            workers.spawn_local(worker(run.clone(), sender.clone()));
        }
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    let run = Rc::into_inner(run).context("a worker is still there")?;
    let mut report = run.report.into_inner();
    report.finish(started.elapsed());
    Ok(report)
}

fn requests(plan: &Plan<'_>, workload: &Workload) -> anyhow::Result<Vec<(Request<()>, Bytes)>> {
    let prepare = |request: &crate::workload::Request| {
        let uri = format!("http://{}{}", plan.target, request.path);
        let mut head = Request::builder().method(request.method).uri(uri);
        if !request.body.is_empty() {
            head = head
                .header("content-type", "application/json")
                .header("content-length", request.body.len());
        }
        Ok((head.body(())?, Bytes::from(request.body.clone())))
    };
    workload.requests.iter().map(prepare).collect()
}

async fn worker(run: Rc<Run>, mut sender: SendRequest<Bytes>) -> anyhow::Result<()> {
    while let Some(left) = run.left.get().checked_sub(1) {
        run.left.set(left);
        let (head, body) = &run.requests[usize::try_from(left)? % run.requests.len()];
        sender = sender.ready().await?;
        let started = Instant::now();
        let outcome = exchange(&mut sender, head.clone(), body.clone(), &run.expect).await;
        let mut report = run.report.borrow_mut();
        match outcome {
            Ok(bytes) => report.answered(started.elapsed(), bytes),
            Err(why) => report.failed(why.to_string()),
        }
    }
    Ok(())
}

async fn exchange(
    sender: &mut SendRequest<Bytes>,
    head: Request<()>,
    body: Bytes,
    expect: &[u8],
) -> anyhow::Result<usize> {
    let (answer, mut sending) = sender.send_request(head, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(body, true)?;
    }
    let answer = answer.await?;
    if answer.status() != 200 {
        bail!("status {}", answer.status().as_u16());
    }
    let mut receiving = answer.into_body();
    let (mut length, mut found, mut all) = (0, false, Vec::new());
    while let Some(piece) = receiving.data().await {
        let piece = piece?;
        receiving.flow_control().release_capacity(piece.len())?;
        length += piece.len();
        // Nearly always in the first piece; only if not are the pieces put together.
        found = found || memmem::find(&piece, expect).is_some();
        if !found {
            all.extend_from_slice(&piece);
        }
    }
    ensure!(
        found || memmem::find(&all, expect).is_some(),
        "unexpected body"
    );
    Ok(length)
}

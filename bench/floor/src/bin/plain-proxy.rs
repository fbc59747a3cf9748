//! Pingora that passes HTTP/1.1 through untouched to one backend: what a proxy costs that does no transcoding at all.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::Parser;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Passes HTTP through.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:10005")]
    listen: SocketAddr,
    /// Where `fixed-backend` is.
    #[arg(long, default_value = "127.0.0.1:10004")]
    backend: SocketAddr,
    /// How many threads serve.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

struct Plain(SocketAddr);

#[async_trait]
impl ProxyHttp for Plain {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _context: &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn main() {
    let arguments = Arguments::parse();
    let settings = ServerConf {
        threads: arguments.threads,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let plain = Plain(arguments.backend);
    let mut service = pingora_proxy::http_proxy_service(&server.configuration, plain);
    service.add_tcp(&arguments.listen.to_string());
    server.add_service(service);
    server.run_forever();
}

//! Makes a connection a WebSocket for one call, and ends it with the call.

use super::{End, HeadKnown, Session};
use crate::edge::parse::{Body, Framing};
use crate::edge::refusal::Refusal;
use crate::edge::websocket::{WebSocket, accepted};
use crate::edge::{Service, Upgrade};

impl<S: Service> Session<S> {
    /// Runs a call whose messages are those of a WebSocket.
    pub(super) async fn websocket(
        &mut self,
        upgrade: Upgrade<S::Call>,
        framing: Framing,
    ) -> Result<(), End> {
        if framing.body != Body::Length(0) {
            let why = "a request for a WebSocket has a body";
            return Err(End::Refuse(Refusal::BadRequest(why), HeadKnown::Yes));
        }
        let accepted = accepted(&self.head, &upgrade.headers)
            .map_err(|refusal| End::Refuse(refusal, HeadKnown::Yes))?;
        self.head.take_up(upgrade.method.clone(), upgrade.parameter);
        let (worker, head, mut client) = self.lend(framing);
        client.switch(&accepted);
        let mut socket = WebSocket::new(client, &upgrade);
        let answer = worker
            .service
            .stream(worker.index, upgrade.call, head, &mut socket)
            .await;
        socket.finish(answer);
        drop(socket);
        self.flush().await?;
        Err(End::Linger)
    }
}

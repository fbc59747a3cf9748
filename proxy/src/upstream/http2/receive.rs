//! The way in: frames become replies, settings, windows. What a frame of a call that is over brings is
//! dropped, but still counted and decoded, since windows and the header table are the connection's.

use h2::Reason;

use super::decoder::{Decoded, MAX_LIST};
use super::encoder::{DEFAULT_TABLE, Encoder};
use super::frame::{self, Head, setting};
use super::machine::{
    CONNECTION_WINDOW, Call, CallState, Core, Failure, Fatal, OpenBlock, STREAM_WINDOW,
};
use crate::upstream::error::CallError;

/// A window is filled up again when this much of it is used.
const PORTION: u32 = 2;

impl Core {
    /// Takes all complete frames at the front of `input`; returns how many bytes they were.
    pub(crate) fn receive(&mut self, input: &[u8]) -> Result<usize, Fatal> {
        let mut taken = 0;
        while let Some(head) = Head::parse(&input[taken..]) {
            if head.length > frame::DEFAULT_MAX {
                return Err(fatal(
                    Reason::FRAME_SIZE_ERROR,
                    "a frame larger than allowed",
                ));
            }
            let start = taken + frame::HEAD;
            let Some(payload) = input.get(start..start + head.length) else {
                break;
            };
            self.frame(head, payload)?;
            taken = start + head.length;
        }
        Ok(taken)
    }

    /// Says goodbye because of what the peer did.
    pub(crate) fn fail(&mut self, fatal: Fatal) {
        let why = fatal.why;
        self.end_calls(|| Failure::Answer(CallError::Malformed(why)), &why.into());
        frame::goaway(&mut self.out, fatal.reason.into());
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let continues = self
            .block
            .as_ref()
            .is_some_and(|block| head.kind == frame::CONTINUATION && head.stream == block.stream);
        if self.block.is_some() != continues || (head.kind == frame::CONTINUATION && !continues) {
            return Err(protocol(
                "a header block that is interrupted or comes from nowhere",
            ));
        }
        if self.encoder.is_none() && (head.kind != frame::SETTINGS || head.has(frame::ACK)) {
            return Err(protocol("no SETTINGS at the start: no HTTP/2 there"));
        }
        match head.kind {
            frame::DATA => self.data(head, payload),
            frame::HEADERS => self.headers(head, payload),
            frame::CONTINUATION => self.continuation(head, payload),
            frame::RST_STREAM => self.rst_stream(head, payload),
            frame::SETTINGS => self.settings(head, payload),
            frame::PUSH_PROMISE => Err(protocol("a push, which was switched off")),
            frame::PING => self.ping_frame(head, payload),
            frame::GOAWAY => self.goaway(head, payload),
            frame::WINDOW_UPDATE => self.window_update(head, payload),
            frame::PRIORITY if head.stream == 0 => Err(protocol("a priority of no stream")),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        self.check_known(head.stream)?;
        self.receive_window -= payload.len() as i64;
        if self.receive_window < 0 {
            return Err(fatal(
                Reason::FLOW_CONTROL_ERROR,
                "more data than the connection's window",
            ));
        }
        let content = head
            .content(payload)
            .ok_or_else(|| protocol("padding that does not fit"))?;
        if let Some(missing) = missing(self.receive_window, CONNECTION_WINDOW) {
            frame::number(&mut self.out, frame::WINDOW_UPDATE, 0, missing);
            self.receive_window += i64::from(missing);
        }
        let Some(call) = self.calls.get_mut(&head.stream) else {
            return Ok(());
        };
        call.receive_window -= payload.len() as i64;
        if call.receive_window < 0 {
            self.refuse(
                head.stream,
                Reason::FLOW_CONTROL_ERROR,
                CallError::Malformed("more data than the window"),
            );
            return Ok(());
        }
        let result = call.take(content);
        if let Err(error) = result {
            self.refuse(head.stream, Reason::CANCEL, error);
        } else if head.has(frame::END_STREAM) {
            self.end_stream(head.stream);
        } else {
            self.refill(head.stream);
        }
        Ok(())
    }

    /// Tells the peer that a stream has room again, once that is worth a frame.
    pub(super) fn refill(&mut self, stream: u32) {
        let Some(call) = self.calls.get_mut(&stream) else {
            return;
        };
        let held = call.pieces.as_ref().map_or(0, |pieces| pieces.held());
        if let Some(missing) = missing(call.receive_window + held as i64, STREAM_WINDOW) {
            call.receive_window += i64::from(missing);
            frame::number(&mut self.out, frame::WINDOW_UPDATE, stream, missing);
        }
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        self.check_known(head.stream)?;
        let content = head
            .content(payload)
            .ok_or_else(|| protocol("padding that does not fit"))?;
        let end_stream = head.has(frame::END_STREAM);
        if head.has(frame::END_HEADERS) {
            return self.header_block(head.stream, end_stream, content);
        }
        self.block = Some(OpenBlock {
            stream: head.stream,
            end_stream,
            bytes: content.to_vec(),
            frames: 1,
        });
        Ok(())
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let Some(mut block) = self.block.take() else {
            return Ok(());
        };
        block.bytes.extend_from_slice(payload);
        block.frames += 1;
        // Frames count too, so that empty ones do not go on for ever.
        if block.bytes.len() + block.frames * frame::HEAD > MAX_LIST {
            return Err(fatal(
                Reason::ENHANCE_YOUR_CALM,
                "more headers than are accepted",
            ));
        }
        if head.has(frame::END_HEADERS) {
            return self.header_block(block.stream, block.end_stream, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    fn header_block(&mut self, stream: u32, end_stream: bool, block: &[u8]) -> Result<(), Fatal> {
        let broken = |_| fatal(Reason::COMPRESSION_ERROR, "headers that cannot be decoded");
        let exchange = self.calls.get_mut(&stream).and_then(Call::exchange);
        let Some(exchange) = exchange else {
            return self
                .decoder
                .decode(block, |_, _| {})
                .map(drop)
                .map_err(broken);
        };
        exchange.begin_block();
        let decoded = self
            .decoder
            .decode(block, |name, value| exchange.field(name, value))
            .map_err(broken)?;
        if let Err(error) = exchange.end_block(end_stream, decoded == Decoded::TooLarge) {
            self.refuse(stream, Reason::CANCEL, error);
        } else if end_stream {
            self.end_stream(stream);
        } else if let Some(call) = self.calls.get_mut(&stream) {
            call.wake_if_streaming();
        }
        Ok(())
    }

    fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        self.check_known(head.stream)?;
        let reason = Reason::from(number(payload)?);
        if let Some(call) = self.calls.get_mut(&head.stream) {
            call.finish(Err(Failure::Reset(reason)));
        }
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(protocol("settings of a stream"));
        }
        if !payload.len().is_multiple_of(6) || (head.has(frame::ACK) && !payload.is_empty()) {
            return Err(fatal(Reason::FRAME_SIZE_ERROR, "settings of a wrong size"));
        }
        if head.has(frame::ACK) {
            return Ok(());
        }
        let mut table = None;
        for entry in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            let value = number(&entry[2..])?;
            if id == setting::HEADER_TABLE_SIZE {
                table = Some(value as usize);
            } else {
                self.setting(id, value)?;
            }
        }
        match (&self.encoder, table) {
            (None, table) => self.encoder = Some(Encoder::new(table.unwrap_or(DEFAULT_TABLE))),
            // Entries would have to go, which this encoder does not do: another connection starts anew.
            (Some(encoder), Some(table)) if !encoder.fits(table) => self.going_away = true,
            _ => {}
        }
        frame::head(&mut self.out, 0, frame::SETTINGS, frame::ACK, 0);
        self.unblock();
        Ok(())
    }

    fn setting(&mut self, id: u16, value: u32) -> Result<(), Fatal> {
        match id {
            setting::ENABLE_PUSH if value != 0 => {
                return Err(protocol("a server that wants to be pushed to"));
            }
            setting::MAX_CONCURRENT_STREAMS => self.max_streams = value as usize,
            setting::INITIAL_WINDOW_SIZE => self.set_initial_window(i64::from(value))?,
            setting::MAX_FRAME_SIZE if !(frame::DEFAULT_MAX as u32..1 << 24).contains(&value) => {
                return Err(protocol("a frame size out of bounds"));
            }
            // Larger frames than the default would only delay other calls.
            _ => {}
        }
        Ok(())
    }

    fn set_initial_window(&mut self, window: i64) -> Result<(), Fatal> {
        let change = window - self.initial_window;
        self.initial_window = window;
        let mut largest = window;
        for (id, call) in &mut self.calls {
            call.window += change;
            largest = largest.max(call.window);
            if change > 0 && !call.unsent.is_empty() && !self.blocked.contains(id) {
                self.blocked.push_back(*id);
            }
        }
        if largest > frame::MAX_WINDOW {
            return Err(fatal(
                Reason::FLOW_CONTROL_ERROR,
                "a window that is too large",
            ));
        }
        Ok(())
    }

    fn ping_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let payload: [u8; 8] = payload
            .try_into()
            .map_err(|_| fatal(Reason::FRAME_SIZE_ERROR, "a PING of a wrong size"))?;
        if head.stream != 0 {
            return Err(protocol("a PING of a stream"));
        }
        // That an answer came is all that matters of it, and whoever asked sees that something came.
        if !head.has(frame::ACK) {
            frame::ping(&mut self.out, frame::ACK, payload);
        }
        Ok(())
    }

    fn goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let (Some(last), 0) = (
            payload.first_chunk::<4>().filter(|_| payload.len() >= 8),
            head.stream,
        ) else {
            return Err(protocol("a GOAWAY that is none"));
        };
        let last = u32::from_be_bytes(*last) & frame::MAX_WINDOW as u32;
        self.going_away = true;
        for (_, call) in self.calls.iter_mut().filter(|(id, _)| **id > last) {
            call.finish(Err(Failure::NotCovered));
        }
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let more = i64::from(number(payload)? & frame::MAX_WINDOW as u32);
        if head.stream == 0 {
            self.send_window += more;
            if more == 0 || self.send_window > frame::MAX_WINDOW {
                return Err(fatal(
                    Reason::FLOW_CONTROL_ERROR,
                    "a window that grows wrongly",
                ));
            }
            self.unblock();
            return Ok(());
        }
        self.check_known(head.stream)?;
        let Some(call) = self.calls.get_mut(&head.stream) else {
            return Ok(());
        };
        call.window += more;
        if more == 0 || call.window > frame::MAX_WINDOW {
            self.refuse(
                head.stream,
                Reason::FLOW_CONTROL_ERROR,
                CallError::Malformed("a window that grows wrongly"),
            );
        } else if !call.unsent.is_empty()
            && !self.send_data(head.stream)
            && !self.blocked.contains(&head.stream)
        {
            self.blocked.push_back(head.stream);
        }
        Ok(())
    }

    /// Streams that were never opened have no frames.
    fn check_known(&self, stream: u32) -> Result<(), Fatal> {
        if stream % 2 == 1 && stream < self.next {
            return Ok(());
        }
        Err(protocol("a frame of a stream that was never opened"))
    }

    /// The answer is complete.
    fn end_stream(&mut self, stream: u32) {
        let Some(call) = self.calls.get_mut(&stream) else {
            return;
        };
        let placeholder = CallState::Done(Box::new(Err(Failure::NotCovered)));
        let unsent =
            !call.unsent.is_empty() || call.pieces.as_ref().is_some_and(|p| p.is_sending());
        match std::mem::replace(&mut call.state, placeholder) {
            CallState::Receiving(exchange) => {
                let reply = match &call.pieces {
                    Some(pieces) => exchange.finish_stream(pieces.is_whole()),
                    None => exchange.finish(),
                };
                call.state = CallState::Done(Box::new(reply.map_err(Failure::Answer)));
                if let Some(waker) = call.waker.take() {
                    waker.wake();
                }
                if unsent {
                    // It did not want the rest of the message.
                    self.reset(stream, Reason::CANCEL);
                }
            }
            done => call.state = done,
        }
    }

    /// The answer is none.
    fn refuse(&mut self, stream: u32, reason: Reason, error: CallError) {
        if let Some(call) = self.calls.get_mut(&stream)
            && call.exchange().is_some()
        {
            call.finish(Err(Failure::Answer(error)));
            self.reset(stream, reason);
        }
    }
}

/// How much is missing from a window, if it is time to say so.
fn missing(window: i64, full: u32) -> Option<u32> {
    let missing = i64::from(full) - window;
    u32::try_from(missing)
        .ok()
        .filter(|missing| *missing >= full / PORTION)
}

fn number(payload: &[u8]) -> Result<u32, Fatal> {
    let bytes = payload
        .try_into()
        .map_err(|_| fatal(Reason::FRAME_SIZE_ERROR, "a frame of a wrong size"))?;
    Ok(u32::from_be_bytes(bytes))
}

fn protocol(why: &'static str) -> Fatal {
    fatal(Reason::PROTOCOL_ERROR, why)
}

fn fatal(reason: Reason, why: &'static str) -> Fatal {
    Fatal { reason, why }
}

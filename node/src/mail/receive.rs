//! The service on port 1001: takes messages and files, and answers each in its order once it is on disk.

use crate::disk::files::FileDone;
use crate::frame_reader::FrameReader;
use crate::mail::frame::{self, Request, emit_answer};
use crate::mail::message::{Kind, Tag};
use crate::mail::receive_file::{Say, Transfers};
use crate::services::io::{Io, Receipt};
use pilot_core::identity::IdentityKey;
use pilot_stack::StreamId;

/// One stream of the service.
pub(crate) struct Receive {
    incoming: FrameReader,
    transfers: Transfers,
}

impl Receive {
    pub(crate) const fn new(stream: StreamId) -> Self {
        Self { incoming: FrameReader::new(), transfers: Transfers::new(stream.number() << 32) }
    }

    /// False while the stream should not be read, because too many bytes of files wait for the disk.
    pub(crate) const fn has_room(&self) -> bool {
        !self.transfers.is_full()
    }

    /// Bytes of a frame that is not complete, and of files that the disk has not written.
    pub(crate) const fn held(&self) -> usize {
        self.incoming.held() + self.transfers.unwritten()
    }

    /// There is no memory for more: unfinished frames and files go, and the peer learns why.
    pub(crate) fn refuse(&mut self, io: &mut Io, why: &str) {
        self.incoming = FrameReader::new();
        let is_inside = self.transfers.is_inside();
        let (jobs, answers) = self.transfers.refuse(why);
        io.files.extend(jobs);
        answers.into_iter().for_each(|(slot, answer)| io.answer(slot, answer));
        if !is_inside {
            io.say(emit_answer(&format!("ERR {why}")));
        }
    }

    /// Takes bytes that have arrived, and the frames that are complete while there is room for what they ask.
    pub(crate) fn take(&mut self, io: &mut Io, bytes: &[u8], sender: IdentityKey) {
        self.incoming.extend(bytes);
        while !io.has_ended && !io.is_broken && io.has_room() && self.take_frame(io, sender) {}
    }

    /// Takes the next frame, or the next part of a file; false when more bytes are needed.
    fn take_frame(&mut self, io: &mut Io, sender: IdentityKey) -> bool {
        if self.transfers.is_inside() {
            self.transfers.take(&mut self.incoming, &mut io.files);
            if self.transfers.is_inside() {
                return false;
            }
        }
        if self.incoming.rest().first_chunk() == Some(&frame::FILE.to_be_bytes()) {
            return self.begin_file(io, sender);
        }
        let request = match self.incoming.next(frame::parse_frame) {
            Ok(Some(frame)) => frame::parse_request(frame),
            Ok(None) => return false,
            Err(frame::Broken) => {
                io.is_broken = true;
                return false;
            }
        };
        match request {
            Request::Message { id, tag, kind, body } => io.deliver((id, tag), kind, body),
            Request::File(payload) => {
                let slot = io.next_slot();
                match self.transfers.take_frame(&payload, &sender.fingerprint(), slot, &mut io.files) {
                    Ok(true) => drop(io.promise()),
                    Ok(false) => {}
                    Err(answer) => io.say(answer),
                }
            }
            Request::Refuse(text) => io.say(emit_answer(&text)),
        }
        true
    }

    fn begin_file(&mut self, io: &mut Io, sender: IdentityKey) -> bool {
        let slot = io.next_slot();
        match self.transfers.begin(&mut self.incoming, &sender.fingerprint(), slot, &mut io.files) {
            Some(true) => {
                io.promise();
                true
            }
            Some(false) => {
                // The beginning of the next frame is unknown. The frames before are still answered.
                io.say(emit_answer("ERR malformed file"));
                io.has_ended = true;
                false
            }
            None => false,
        }
    }

    /// The peer has ended its side; in the middle of a file this breaks the stream.
    pub(crate) const fn end(&mut self, io: &mut Io) {
        io.is_broken |= self.transfers.is_inside();
    }

    /// The answer to the peer once a message is on disk.
    pub(crate) fn written(&self, (kind, tag): (Kind, Tag), len: usize, outcome: Result<Receipt, String>) -> Vec<u8> {
        match outcome {
            Ok(_) => emit_answer(&frame::ack_text(kind, tag, len)),
            Err(why) => emit_answer(&format!("ERR {why}")),
        }
    }

    /// The disk has done a job of `len` bytes for a file.
    pub(crate) fn file_done(&mut self, io: &mut Io, file: u64, len: usize, done: FileDone) {
        match self.transfers.done(file, len, done) {
            Say::Nothing => {}
            Say::Answer(slot, answer) => io.answer(slot, answer),
            Say::Now(bytes) => io.outgoing.extend(bytes),
        }
    }

    /// The stream is over: unfinished files are given up.
    pub(crate) fn give_up(&mut self, io: &mut Io) {
        io.files.extend(self.transfers.give_up());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::files::FileJob;

    const SENDER: IdentityKey = IdentityKey([7; 32]);

    fn receive() -> (Receive, Io) {
        (Receive::new(StreamId::from_number(3)), Io::default())
    }

    #[test]
    fn messages_and_refusals_are_answered_in_their_order() {
        let (mut receive, mut io) = receive();
        let mut bytes = frame::emit_tagged(&[1; 16], Tag::Plain, Kind::Json, b"{}");
        bytes.extend(frame::emit_frame(99, &[b"?"]));
        for byte in bytes {
            receive.take(&mut io, &[byte], SENDER);
        }
        assert_eq!(io.deliveries.len(), 1);
        assert_eq!(io.deliveries[0].id, Some([1; 16]));
        let ack = receive.written((Kind::Json, Tag::Plain), 2, Ok(Receipt { fresh: true, seq: 9, answers: false }));
        assert_eq!(ack, emit_answer("ACK JSON 2 bytes"));
        assert!(!io.is_finished() && !io.is_broken);
    }

    #[test]
    fn a_file_in_one_frame_goes_to_the_disk_as_it_comes() {
        let (mut receive, mut io) = receive();
        let bytes = frame::emit_frame(frame::FILE, &[&3u16.to_be_bytes(), b"a.b", b"hello"]);
        let (begin, rest) = bytes.split_at(15);
        receive.take(&mut io, begin, SENDER);
        assert!(
            matches!(&io.files[..], [FileJob::Open { file, .. }, FileJob::Data { offset: 0, .. }] if file.name == "a.b" && file.len == 5)
        );
        let mut ended = Io::default();
        receive.end(&mut ended);
        assert!(ended.is_broken, "in the middle of a file");
        receive.take(&mut io, rest, SENDER);
        assert!(matches!(io.files.last(), Some(FileJob::End { .. })));
    }

    #[test]
    fn a_malformed_file_ends_the_stream_after_its_answer() {
        let (mut receive, mut io) = receive();
        receive.take(&mut io, &frame::emit_frame(frame::FILE, &[&[0xff, 0xff]]), SENDER);
        assert!(io.has_ended && !io.is_broken);
    }
}

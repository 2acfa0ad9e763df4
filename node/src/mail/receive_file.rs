//! Owns the files that arrive on one stream to port 1001: a whole file in one frame (type 4), and resumable transfers in
//! many frames (type 7). Bytes go to the disk as they arrive; memory never holds a whole file.
//!
//! Type 4: `name length u16 | name | data`. Type 7: `kind u8 | transfer 16 bytes | …`, where the sender opens (1: length
//! u64, SHA-256, chunk u32, name length u16, name), the receiver accepts (5: offset u64), data follows (2: offset u64,
//! bytes) and is acknowledged (3: offset u64), the sender ends (4), and the receiver gives the result (6: status u8, text).
//! Source: `docs/messages.md`, "Services on well-known ports", and the frames of the official program on the wire.

use crate::disk::files::{Announced, FILE_LEN_MAX, FileDone, FileJob, Resume};
use crate::frame_reader::FrameReader;
use crate::mail::frame::{FILE_STREAM, emit_answer, emit_frame};
use litemap::LiteMap;

/// Most resumable transfers at once on one stream.
const TRANSFERS_MAX: usize = 8;
/// Bytes of one stream's files that may wait for the disk; at the limit the stream is not read. Unit: bytes.
const UNWRITTEN_LEN_MAX: usize = 4 << 20;

const OPEN: u8 = 1;
const DATA: u8 = 2;
const ACK: u8 = 3;
const END: u8 = 4;
const ACCEPT: u8 = 5;
const RESULT: u8 = 6;

/// A frame of type 7 from the sender.
enum FromSender<'a> {
    Open { len: u64, hash: [u8; 32], name: &'a str },
    Data { offset: u64, bytes: &'a [u8] },
    End,
}

/// The frame that a stream owes its sender after a job of the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Say {
    Nothing,
    /// The answer that was promised under this ticket. A second answer under the same ticket leaves at once.
    Answer(u64, Vec<u8>),
    /// A frame that leaves at once.
    Now(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The disk has not told yet where the file goes on.
    Opening,
    Open,
    /// The disk has got the file's last byte, and decides about it.
    Ending,
}

/// The files that are arriving on one stream.
pub(crate) struct Transfers {
    /// The number of the next file.
    next: u64,
    arriving: Option<Whole>,
    files: LiteMap<u64, Arriving>,
    /// Bytes that were given to the disk and are not written. Unit: bytes.
    unwritten: usize,
}

/// A frame of type 4 of which bytes are missing.
struct Whole {
    id: u64,
    /// Bytes of the file that have arrived.
    offset: u64,
    /// Bytes of the file that are missing.
    left: u64,
}

struct Arriving {
    /// The sender's name for the transfer; `None`: the file comes in one frame.
    transfer: Option<[u8; 16]>,
    stage: Stage,
    /// The ticket of the answer for which the sender waits.
    ticket: u64,
    frame_len: u64,
    failure: Option<String>,
}

impl Transfers {
    /// `first`: the number of this stream's first file; the next [`u32::MAX`] numbers are this stream's too.
    pub(crate) const fn new(first: u64) -> Self {
        Self { next: first, arriving: None, files: LiteMap::new(), unwritten: 0 }
    }

    /// True while the stream should not be read.
    pub(crate) const fn is_full(&self) -> bool {
        self.unwritten >= UNWRITTEN_LEN_MAX
    }

    /// Bytes that were given to the disk and are not written.
    pub(crate) const fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// True while the bytes that come belong to a file.
    pub(crate) const fn is_inside(&self) -> bool {
        self.arriving.is_some()
    }

    /// Begins a file in one frame when its head has arrived. `None`: more bytes are needed; `Some(false)`: the head is
    /// malformed.
    pub(crate) fn begin(
        &mut self,
        incoming: &mut FrameReader,
        sender: &str,
        ticket: u64,
        jobs: &mut Vec<FileJob>,
    ) -> Option<bool> {
        let head = incoming.rest().first_chunk::<10>()?;
        let frame_len = u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
        let name_len = usize::from(u16::from_be_bytes([head[8], head[9]]));
        let Some(len) = frame_len.checked_sub(2 + name_len as u64) else { return Some(false) };
        let name = String::from_utf8_lossy(incoming.rest().get(10..10 + name_len)?).into_owned();
        incoming.consume(10 + name_len);
        let id = self.new_file(None, ticket, frame_len);
        let file = Announced { name, len, sender: sender.into(), quota: 0, resume: None };
        jobs.push(FileJob::Open { id, file });
        self.arriving = Some(Whole { id, offset: 0, left: len });
        Some(true)
    }

    /// Takes the bytes of the file that is arriving.
    pub(crate) fn take(&mut self, incoming: &mut FrameReader, jobs: &mut Vec<FileJob>) {
        let Some(whole) = &mut self.arriving else { return };
        debug_assert!(self.files.contains_key(&whole.id), "a file is known until its answer is given");
        let n = (incoming.rest().len() as u64).min(whole.left) as usize;
        if n > 0 {
            let bytes = incoming.rest()[..n].to_vec();
            incoming.consume(n);
            jobs.push(FileJob::Data { id: whole.id, offset: whole.offset, bytes });
            (whole.offset, whole.left) = (whole.offset + n as u64, whole.left - n as u64);
            self.unwritten += n;
        }
        if whole.left == 0 {
            let id = whole.id;
            jobs.push(FileJob::End { id });
            self.files.get_mut(&id).into_iter().for_each(|file| file.stage = Stage::Ending);
            self.arriving = None;
        }
    }

    /// Takes a frame of type 7. `Ok(true)`: an answer follows under `ticket`. `Err`: the frame that answers it now.
    pub(crate) fn take_frame(
        &mut self,
        payload: &[u8],
        sender: &str,
        ticket: u64,
        jobs: &mut Vec<FileJob>,
    ) -> Result<bool, Vec<u8>> {
        let Some((transfer, frame)) = parse(payload) else { return Err(result(&[0; 16], "malformed frame")) };
        let known = self.files.iter().find(|(_, f)| f.transfer == Some(transfer)).map(|(id, _)| *id);
        match (frame, known) {
            (FromSender::Open { len, hash, name }, None) => {
                if self.files.len() >= TRANSFERS_MAX || len > FILE_LEN_MAX {
                    let why = if len > FILE_LEN_MAX { "the file is too long" } else { "too many transfers at once" };
                    return Err(result(&transfer, why));
                }
                let id = self.new_file(Some(transfer), ticket, 0);
                let (name, resume) = (name.into(), Some(Resume { transfer, hash }));
                let file = Announced { name, len, sender: sender.into(), quota: 0, resume };
                jobs.push(FileJob::Open { id, file });
                Ok(true)
            }
            (FromSender::Open { .. }, Some(_)) => Err(result(&transfer, "this transfer is under way already")),
            (FromSender::Data { offset, bytes }, Some(id)) => {
                self.unwritten += bytes.len();
                jobs.push(FileJob::Data { id, offset, bytes: bytes.to_vec() });
                Ok(false)
            }
            (FromSender::End, Some(id)) => {
                let Some(file) = self.files.get_mut(&id) else { return Ok(false) };
                let was = std::mem::replace(&mut file.stage, Stage::Ending);
                if was != Stage::Ending {
                    jobs.push(FileJob::End { id });
                }
                // An end that comes before the answer to its beginning has no answer of its own: both leave under one ticket.
                if was == Stage::Open {
                    file.ticket = ticket;
                }
                Ok(was == Stage::Open)
            }
            // The transfer failed before, and the sender was told.
            (FromSender::Data { .. } | FromSender::End, None) => Ok(false),
        }
    }

    fn new_file(&mut self, transfer: Option<[u8; 16]>, ticket: u64, frame_len: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        self.files.insert(id, Arriving { transfer, stage: Stage::Opening, ticket, frame_len, failure: None });
        id
    }

    /// The disk has done a job of `len` bytes for file `id`.
    pub(crate) fn done(&mut self, id: u64, len: usize, done: FileDone) -> Say {
        self.unwritten = self.unwritten.saturating_sub(len);
        let Some(file) = self.files.get_mut(&id) else { return Say::Nothing };
        let ticket = file.ticket;
        match (done, file.transfer) {
            (FileDone::Opened { offset }, Some(transfer)) => {
                if file.stage == Stage::Opening {
                    file.stage = Stage::Open;
                }
                Say::Answer(ticket, frame(ACCEPT, &transfer, &offset.to_be_bytes()))
            }
            (FileDone::Written { len }, Some(transfer)) => Say::Now(frame(ACK, &transfer, &len.to_be_bytes())),
            (FileDone::Kept { .. }, Some(transfer)) => {
                self.files.remove(&id);
                Say::Answer(ticket, frame(RESULT, &transfer, &[0]))
            }
            (FileDone::Failed(why), Some(transfer)) => {
                self.files.remove(&id);
                Say::Answer(ticket, result(&transfer, &why))
            }
            (FileDone::Kept { .. }, None) => {
                let text = format!("ACK FILE {} bytes", file.frame_len);
                self.files.remove(&id);
                Say::Answer(ticket, emit_answer(&text))
            }
            (FileDone::Failed(why), None) => {
                let why = file.failure.get_or_insert(why).clone();
                // The whole frame is read before its answer is given.
                if self.arriving.as_ref().is_some_and(|whole| whole.id == id) {
                    return Say::Nothing;
                }
                self.files.remove(&id);
                Say::Answer(ticket, emit_answer(&format!("ERR {why}")))
            }
            _ => Say::Nothing,
        }
    }

    /// Takes no more bytes of unfinished files: gives the jobs that close them, and what their senders are told instead of the answer
    /// that was promised. The disk still answers for the others.
    pub(crate) fn refuse(&mut self, why: &str) -> (Vec<FileJob>, Vec<(u64, Vec<u8>)>) {
        self.arriving = None;
        let unfinished: Vec<u64> =
            self.files.iter().filter(|(_, f)| f.stage != Stage::Ending).map(|(id, _)| *id).collect();
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        for id in unfinished {
            let Some(file) = self.files.remove(&id) else { continue };
            jobs.push(FileJob::Drop { id });
            let answer = match file.transfer {
                Some(transfer) => result(&transfer, why),
                None => emit_answer(&format!("ERR {why}")),
            };
            answers.push((file.ticket, answer));
        }
        (jobs, answers)
    }

    /// The stream is over: gives the jobs that close its unfinished files.
    pub(crate) fn give_up(&mut self) -> Vec<FileJob> {
        self.arriving = None;
        std::mem::take(&mut self.files).into_iter().map(|(id, _)| FileJob::Drop { id }).collect()
    }
}

fn parse(payload: &[u8]) -> Option<([u8; 16], FromSender<'_>)> {
    let (kind, rest) = payload.split_first()?;
    let (transfer, rest) = rest.split_first_chunk::<16>()?;
    let frame = match *kind {
        OPEN => {
            let (len, rest) = rest.split_first_chunk::<8>()?;
            let (hash, rest) = rest.split_first_chunk::<32>()?;
            let (_chunk, rest) = rest.split_first_chunk::<4>()?;
            let (name_len, rest) = rest.split_first_chunk::<2>()?;
            let name = rest.get(..usize::from(u16::from_be_bytes(*name_len)))?;
            FromSender::Open { len: u64::from_be_bytes(*len), hash: *hash, name: std::str::from_utf8(name).ok()? }
        }
        DATA => {
            let (offset, bytes) = rest.split_first_chunk::<8>()?;
            FromSender::Data { offset: u64::from_be_bytes(*offset), bytes }
        }
        END => FromSender::End,
        _ => return None,
    };
    Some((*transfer, frame))
}

fn frame(kind: u8, transfer: &[u8; 16], rest: &[u8]) -> Vec<u8> {
    emit_frame(FILE_STREAM, &[&[kind], transfer, rest])
}

fn result(transfer: &[u8; 16], why: &str) -> Vec<u8> {
    frame(RESULT, transfer, &[&[1], why.as_bytes()].concat())
}

/// The sender's side.
pub(crate) mod sender {
    use super::{ACCEPT, ACK, DATA, END, OPEN, RESULT, frame};

    /// Bytes of a file in one data frame. Unit: bytes. Source: the official program announces the same.
    pub(crate) const CHUNK_LEN: usize = 48 * 1024;

    pub(crate) fn open(transfer: &[u8; 16], len: u64, hash: &[u8; 32], name: &str) -> Vec<u8> {
        let name_len = (name.len() as u16).to_be_bytes();
        let chunk = (CHUNK_LEN as u32).to_be_bytes();
        frame(OPEN, transfer, &[&len.to_be_bytes(), &hash[..], &chunk, &name_len, name.as_bytes()].concat())
    }

    pub(crate) fn data(transfer: &[u8; 16], offset: u64, bytes: &[u8]) -> Vec<u8> {
        frame(DATA, transfer, &[&offset.to_be_bytes(), bytes].concat())
    }

    pub(crate) fn end(transfer: &[u8; 16]) -> Vec<u8> {
        frame(END, transfer, &[])
    }

    /// A frame of type 7 from the receiver.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum FromReceiver {
        Accept(u64),
        Ack(u64),
        Kept,
        Refused(String),
    }

    pub(crate) fn parse(payload: &[u8]) -> Option<FromReceiver> {
        let (kind, rest) = payload.split_first()?;
        let (_transfer, rest) = rest.split_first_chunk::<16>()?;
        let offset = || rest.first_chunk().map(|b| u64::from_be_bytes(*b));
        match *kind {
            ACCEPT => offset().map(FromReceiver::Accept),
            ACK => offset().map(FromReceiver::Ack),
            RESULT => match rest.split_first()? {
                (0, _) => Some(FromReceiver::Kept),
                (_, why) => Some(FromReceiver::Refused(String::from_utf8_lossy(why).into_owned())),
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(transfers: &mut Transfers, transfer: u8, len: u64) -> Result<bool, Vec<u8>> {
        let frame = sender::open(&[transfer; 16], len, &[0; 32], "a");
        transfers.take_frame(&frame[8..], "peer", transfer.into(), &mut Vec::new())
    }

    #[test]
    fn transfers_of_one_stream_have_a_maximum() {
        let mut transfers = Transfers::new(1 << 32);
        (0..TRANSFERS_MAX as u8).for_each(|n| assert_eq!(open(&mut transfers, n, 9), Ok(true)));
        assert_eq!(open(&mut transfers, 99, 9), Err(result(&[99; 16], "too many transfers at once")));
        assert_eq!(open(&mut transfers, 0, 9), Err(result(&[0; 16], "this transfer is under way already")));
        assert_eq!(transfers.done(1 << 32, 0, FileDone::Failed("no".into())), Say::Answer(0, result(&[0; 16], "no")));
        assert_eq!(open(&mut transfers, 99, FILE_LEN_MAX + 1), Err(result(&[99; 16], "the file is too long")));
        assert_eq!(open(&mut transfers, 99, 9), Ok(true), "a place is free");
        assert_eq!(transfers.give_up().len(), TRANSFERS_MAX);
    }

    #[test]
    fn each_promised_answer_comes_although_the_sender_ends_too_early_or_twice() {
        let (mut transfers, mut jobs) = (Transfers::new(0), Vec::new());
        let end = |transfers: &mut Transfers, ticket, jobs: &mut Vec<FileJob>| {
            transfers.take_frame(&sender::end(&[1; 16])[8..], "peer", ticket, jobs)
        };
        assert_eq!(open(&mut transfers, 1, 9), Ok(true));
        assert_eq!(end(&mut transfers, 2, &mut jobs), Ok(false), "before the answer to its beginning");
        assert_eq!(end(&mut transfers, 2, &mut jobs), Ok(false), "twice");
        assert_eq!(jobs, [FileJob::End { id: 0 }]);
        let accept = frame(ACCEPT, &[1; 16], &0u64.to_be_bytes());
        assert_eq!(transfers.done(0, 0, FileDone::Opened { offset: 0 }), Say::Answer(1, accept));
        assert_eq!(transfers.done(0, 0, FileDone::Failed("no".into())), Say::Answer(1, result(&[1; 16], "no")));

        assert_eq!(open(&mut transfers, 1, 9), Ok(true));
        transfers.done(1, 0, FileDone::Opened { offset: 0 });
        assert_eq!(end(&mut transfers, 3, &mut jobs), Ok(true));
        assert_eq!(end(&mut transfers, 4, &mut jobs), Ok(false));
        assert_eq!(transfers.done(1, 0, FileDone::Failed("no".into())), Say::Answer(3, result(&[1; 16], "no")));
    }

    #[test]
    fn unfinished_files_are_refused_and_the_disk_answers_for_the_others() {
        let (mut transfers, mut jobs) = (Transfers::new(0), Vec::new());
        let mut incoming = FrameReader::new();
        incoming.extend(&emit_frame(crate::mail::frame::FILE, &[&1u16.to_be_bytes(), b"a", &[7; 9]]));
        assert_eq!(transfers.begin(&mut incoming, "peer", 1, &mut jobs), Some(true));
        transfers.take(&mut incoming, &mut jobs);
        assert_eq!(open(&mut transfers, 2, 9), Ok(true));
        incoming.extend(&emit_frame(crate::mail::frame::FILE, &[&1u16.to_be_bytes(), b"b", &[7; 9]])[..15]);
        assert_eq!(transfers.begin(&mut incoming, "peer", 3, &mut jobs), Some(true));
        let (jobs, answers) = transfers.refuse("full");
        assert_eq!(jobs, [FileJob::Drop { id: 1 }, FileJob::Drop { id: 2 }]);
        assert_eq!(answers, [(2, result(&[2; 16], "full")), (3, emit_answer("ERR full"))]);
        let kept = FileDone::Kept { path: "a".into(), len: 9 };
        assert_eq!(transfers.done(0, 0, kept), Say::Answer(1, emit_answer("ACK FILE 12 bytes")));
    }

    #[test]
    fn a_stream_is_not_read_while_too_many_bytes_wait_for_the_disk() {
        let (mut transfers, mut jobs) = (Transfers::new(0), Vec::new());
        open(&mut transfers, 1, FILE_LEN_MAX).expect("room");
        let piece = vec![0; UNWRITTEN_LEN_MAX / 4];
        for n in 0..4 {
            assert!(!transfers.is_full());
            let frame = sender::data(&[1; 16], n, &piece);
            assert_eq!(transfers.take_frame(&frame[8..], "peer", 2, &mut jobs), Ok(false));
        }
        assert!(transfers.is_full());
        let written = transfers.done(0, piece.len(), FileDone::Written { len: 9 });
        assert_eq!(written, Say::Now(frame(ACK, &[1; 16], &9u64.to_be_bytes())));
        assert!(!transfers.is_full());
    }
}

//! The service on port 7: gives every byte back (RFC 862).

use crate::services::io::Io;

/// Echoed bytes that may wait; at the limit the stream is not read. Unit: bytes.
const WAITING_MAX: usize = 64 * 1024;

/// One stream of the service.
#[derive(Default)]
pub(crate) struct Echo;

impl Echo {
    pub(crate) fn has_room(&self, io: &Io) -> bool {
        io.outgoing.len() < WAITING_MAX
    }

    pub(crate) fn take(&mut self, io: &mut Io, bytes: &[u8]) {
        io.outgoing.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_a_full_queue_stops_reading() {
        let (mut echo, mut io) = (Echo, Io::default());
        echo.take(&mut io, b"abc");
        assert_eq!(io.outgoing, b"abc");
        assert!(echo.has_room(&io));
        echo.take(&mut io, &[0; WAITING_MAX]);
        assert!(!echo.has_room(&io));
    }
}

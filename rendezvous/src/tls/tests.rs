//! The clients that come by TCP, with real sockets.

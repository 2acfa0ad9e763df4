//! Owns Listeners of the official interface.
#![allow(non_snake_case, reason = "official names")]

use super::conn::Conn;
use super::driver::Driver;
use super::{HandleErr, get, handle, string};
use crate::error::{PILOT_E_CLOSED, PILOT_E_CONFLICT};
use crate::listener::{Listener, Want};
use crate::node::NodeObject;
use crate::table::{Kind, Used, insert, remove};
use std::ffi::c_char;

pub(crate) struct OfficialListener {
    listener: Listener,
    driver: Used<Driver>,
}

impl Kind for OfficialListener {
    const NAME: &'static str = "a Listener";

    fn close(&self) {
        self.listener.close();
    }
}

/// Binds a port.
#[unsafe(no_mangle)]
pub extern "C" fn PilotListen(h: u64, port: u16) -> HandleErr {
    handle(|| {
        let driver: Used<Driver> = get(h, "driver ")?;
        let node = NodeObject::attached(driver.path.clone());
        let listener = Listener::bind_on(&node, port).map_err(|fault| match fault.code {
            PILOT_E_CONFLICT => format!("bind: daemon: {}", fault.message),
            _ => format!("bind: {}", fault.message),
        })?;
        let made = insert(OfficialListener { listener, driver: driver.clone() });
        made.map(|handle| driver.own(handle)).map_err(|fault| fault.message)
    })
}

/// Waits for the next stream; PilotListenerClose ends the waiting.
#[unsafe(no_mangle)]
pub extern "C" fn PilotListenerAccept(lh: u64) -> HandleErr {
    handle(|| {
        let own: Used<OfficialListener> = get(lh, "listener ")?;
        let (fd, _) = own.listener.accept(-1, Want::Descriptor).map_err(|fault| match fault.code {
            PILOT_E_CLOSED => "listener closed".to_owned(),
            _ => fault.message,
        })?;
        let fd = fd.ok_or("no descriptors are left")?;
        let conn = Conn::new(fd.into(), own.driver.path.clone()).map_err(|e| e.to_string())?;
        insert(conn).map(|handle| own.driver.own(handle)).map_err(|fault| fault.message)
    })
}

/// Closes a Listener and frees its port.
#[unsafe(no_mangle)]
pub extern "C" fn PilotListenerClose(lh: u64) -> *mut c_char {
    string(|| {
        get::<OfficialListener>(lh, "listener ")?;
        remove(lh as i64);
        Ok(None)
    })
}

//! Owns the code with which a daemon starts: where it comes from, the rendezvous in it, and the request that uses it.

use crate::output::tell;
use pilot_core::invite::{Host, JoinCode, Rendezvous};
use pilot_node::answer::Approved;
use pilot_node::{Client, Code, Failure, Request};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Time beyond that of a join in which the daemon tells its outcome.
const GRACE: Duration = Duration::from_secs(5);

/// A code with which a daemon starts.
pub(crate) struct StartCode {
    text: String,
    code: JoinCode,
}

impl StartCode {
    /// The code that a flag, `PILOT_JOIN` or the file `PILOT_JOIN_FILE` gives, in this order.
    ///
    /// # Errors
    /// `InvalidArgument` for a text that is no code; `Internal` for a file that cannot be read.
    pub(crate) fn given(flag: Option<&str>) -> Result<Option<Self>, Failure> {
        if let Some(text) = flag {
            return Self::parse(text).map(Some);
        }
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(text) = variable("PILOT_JOIN").map(OsString::into_string) {
            let text = text.map_err(|_| Failure::new(Code::InvalidArgument, "PILOT_JOIN is not UTF-8"))?;
            return Self::parse(&text).map(Some);
        }
        let Some(path) = variable("PILOT_JOIN_FILE").map(PathBuf::from) else { return Ok(None) };
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Failure::new(Code::Internal, format!("PILOT_JOIN_FILE: {}: {e}", path.display())))?;
        Self::parse(&text).map(Some)
    }

    /// Reads a code.
    ///
    /// # Errors
    /// `InvalidArgument` with the place of what was typed wrongly.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let code = text.parse::<JoinCode>().map_err(|e| {
            Failure::new(Code::InvalidArgument, e.to_string())
                .hint("copy the whole line that pilotctl invite has printed")
        })?;
        Ok(Self { text: text.trim().into(), code })
    }

    /// The rendezvous in the code, as `KEY@HOST,…`, for a daemon that has none configured.
    pub(crate) fn rendezvous(&self) -> Option<String> {
        let Some(Rendezvous::At(key, hosts)) = self.code.rendezvous() else { return None };
        let host = |host: &Host| match host {
            Host::Name(name, port) => format!("{name}:{port}"),
            Host::At(addr) => addr.to_string(),
        };
        let hosts: Vec<_> = hosts.iter().map(host).collect();
        Some(format!("{key}@{}", hosts.join(",")))
    }

    /// Asks a daemon to join, and waits for the inviter's answer.
    pub(crate) fn join(
        &self,
        mut client: Client,
        ports: Option<String>,
        timeout: Duration,
    ) -> Result<serde_json::Value, Failure> {
        let timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let request = Request::Join { code: self.text.clone(), ports, timeout_ms };
        let reply = client.request(&request, &[], Some(timeout.saturating_add(GRACE)))?;
        reply.read::<Approved>()?;
        Ok(reply.data)
    }

    /// Joins from a daemon that has just started, and goes on until the inviter has decided. The log tells how it ended.
    pub(crate) fn join_from_within(self, node: pilot_node::Node) {
        const PATIENCE: Duration = Duration::from_secs(3600);
        std::thread::spawn(move || {
            loop {
                match node.trust().join(&self.text, PATIENCE) {
                    Err(failure) if matches!(failure.code, Code::Timeout | Code::Unreachable) => {}
                    Err(failure) if failure.code == Code::NotRunning => return,
                    Err(failure) => return tell(&format!("warning: not joined: {failure}")),
                    Ok(_) => return,
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "pilot:qxj6tfd95kj6tfd9-5kj6tfd95kj6tfd9-5kj6tfd95kj6tfd9-5kj62qqqzg69v787-e2kskar9dcsxy7t5-v4ejzqxjf94ss0pu-8s7rc0pu8s7rc0pu-8s7rc0pu8s7rc0pu-8s7rc0pu8s7rc0pu-qgr9vu0zr8kchdtu-xktw2eg9m6awa";

    #[test]
    fn a_code_tells_the_rendezvous_that_a_new_machine_uses() {
        let code = StartCode::parse(CODE).expect("a code");
        let text = code.rendezvous().expect("a rendezvous");
        assert_eq!(text, format!("{}@rendezvous.example:9000", "3c".repeat(32)));
        assert!(text.parse::<pilot_node::RendezvousConfig>().is_ok());
    }

    #[test]
    fn a_wrong_letter_is_named_before_anything_is_sent() {
        let wrong = CODE.replacen("kskar", "kskas", 1);
        let failure = StartCode::parse(&wrong).err().expect("no code");
        assert_eq!(failure.code, Code::InvalidArgument);
        assert_eq!(failure.message, "letter 7 of group 5 of the code is wrong");
        let swapped = CODE.replacen("kskar", "skkar", 1);
        let failure = StartCode::parse(&swapped).err().expect("no code");
        assert_eq!(failure.message, "letter 3 of group 5 of the code and the next one have changed places");
    }
}

//! Owns the commands about codes: `invite`, `invites`, `uninvite`, `join`, and the code with which a daemon starts.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon, duration};
use crate::daemon::start_to_join;
use crate::grants::seconds;
use crate::output::{Output, tell};
use pilot_core::invite::{Host, InviteCode, Rendezvous};
use pilot_node::answer::{Approved, Invited, Invites};
use pilot_node::{Client, Code, Failure, Request};
use qrcodegen::{QrCode, QrCodeEcc};
use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::time::Duration;

/// Time beyond that of a join in which the daemon tells its outcome.
const GRACE: Duration = Duration::from_secs(5);
/// Light modules around a QR code. Source: ISO/IEC 18004 §6.3.8 asks for four; readers of screens do with two.
const QR_FRAME: i32 = 2;
/// Longest text in which a code is sought. Unit: bytes.
const TEXT_MAX: u64 = 4096;

/// Makes an invite and shows its code: on standard output that alone, the rest beside it.
pub(crate) fn invite(args: args::Invite, output: &Output) -> Result<(), Failure> {
    let (short, direct) = (args.short.then_some(true), args.direct.then_some(true));
    let request = Request::Invite {
        ports: args.ports,
        expires_s: seconds(args.expires.as_deref())?,
        uses: args.uses,
        short,
        direct,
    };
    let reply = daemon()?.request(&request, &[], Some(CALL_TIMEOUT))?;
    if output.json {
        output.ok(&reply.data);
        return Ok(());
    }
    let invited = reply.read::<Invited>()?;
    output.line(&invited.code);
    let nodes = if invited.uses == 1 { "one node".into() } else { format!("{} nodes", invited.uses) };
    output.note(&format!("for {nodes}, which can reach here: {}", invited.granted.join(", ")));
    output.note("on the other machine: pilotctl join CODE     here: pilotctl invites");
    if std::io::stderr().is_terminal() {
        qr_lines(&invited.code).iter().for_each(|line| output.note(line));
    }
    Ok(())
}

/// The code as a QR code, two rows of which make one line. Empty for a text that is too long for one.
fn qr_lines(code: &str) -> Vec<String> {
    // Capital letters take 5.5 bits each.
    let Ok(qr) = QrCode::encode_text(&code.to_ascii_uppercase(), QrCodeEcc::Low) else { return Vec::new() };
    // A reader wants a light frame; terminals are mostly dark, so that light is what is drawn.
    let is_light = |x: i32, y: i32| !qr.get_module(x, y);
    let frame = -QR_FRAME..qr.size() + QR_FRAME;
    let cell = |x: i32, y: i32| match (is_light(x, y), is_light(x, y + 1)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    };
    frame.clone().step_by(2).map(|y| frame.clone().map(|x| cell(x, y)).collect()).collect()
}

/// Lists the invites.
pub(crate) fn invites(output: &Output) -> Result<(), Failure> {
    let reply = daemon()?.request(&Request::Invites, &[], Some(CALL_TIMEOUT))?;
    output.ok(&reply.data);
    if reply.read::<Invites>()?.invites.is_empty() {
        output.note("no invites; pilotctl invite");
    }
    Ok(())
}

/// Joins the maker of a code. Without a daemon one is started, which learns its rendezvous from the code.
pub(crate) fn join(args: args::Join, output: &Output) -> Result<(), Failure> {
    let given = if args.code == "-" { read_stdin()? } else { args.code };
    let code = StartCode::parse(&given)?; // what was typed wrongly fails before anything is sent
    let timeout = duration(&args.timeout)?;
    let client = match daemon() {
        Err(failure) if failure.code == Code::NotRunning => {
            start_to_join(&code, args.hostname)?;
            daemon()?
        }
        client => client?,
    };
    let data = code.join(client, args.ports, timeout)?;
    output.ok(&data);
    Ok(())
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(TEXT_MAX).read_to_string(&mut text);
    read.map_err(|e| Failure::new(Code::Internal, format!("stdin: {e}")))?;
    Ok(text)
}

/// A code with which a daemon starts.
pub(crate) struct StartCode {
    text: String,
    code: InviteCode,
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

    fn parse(text: &str) -> Result<Self, Failure> {
        let code = text.parse::<InviteCode>().map_err(|e| {
            Failure::new(Code::InvalidArgument, e.to_string())
                .hint("copy the whole line that pilotctl invite has printed")
        })?;
        Ok(Self { text: text.trim().into(), code })
    }

    /// The rendezvous in the code, as `KEY@HOST,…`, for a daemon that has none configured.
    pub(crate) fn rendezvous(&self) -> Option<String> {
        let Some(Rendezvous::At(key, hosts)) = &self.code.rendezvous else { return None };
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

    #[test]
    fn a_qr_code_is_square_and_fits_a_terminal_of_80_columns() {
        let lines = qr_lines(CODE);
        let width = lines[0].chars().count();
        assert!(lines.len() == width.div_ceil(2) && width <= 80, "{width} by {}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() == width));
        // The frame is light, and the corner of a finder pattern dark.
        assert!(lines[0].chars().all(|cell| cell == '█'));
        assert_eq!(lines[1].chars().nth(2), Some(' '));
    }
}

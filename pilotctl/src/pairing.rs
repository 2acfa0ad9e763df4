//! Owns the commands about codes that have more to do than one request: `invite`, `invites`, `join`.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon, duration};
use crate::daemon::daemon_or_start;
use crate::grants::seconds;
use crate::output::Output;
use crate::start_code::StartCode;
use pilot_node::answer::{Invited, Invites};
use pilot_node::{Code, Failure, Request};
use qrcodegen::{QrCode, QrCodeEcc};
use std::io::{IsTerminal as _, Read as _};

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
    show_code(&request, output)
}

/// Asks for a code, starting a daemon if none runs, and shows it.
pub(crate) fn show_code(request: &Request, output: &Output) -> Result<(), Failure> {
    let reply = daemon_or_start(None, None, output)?.request(request, &[], Some(CALL_TIMEOUT))?;
    if output.json {
        output.ok(&reply.data);
        return Ok(());
    }
    let invited = reply.read::<Invited>()?;
    output.line(&invited.code);
    let nodes = if invited.uses == 1 { "one node".into() } else { format!("{} nodes", invited.uses) };
    let granted = invited.granted.join(", ");
    output.note(&if granted.is_empty() {
        format!("for {nodes}")
    } else {
        format!("for {nodes}, which can reach here: {granted}")
    });
    let here = if invited.offline { "group list" } else { "invites" };
    output.note(&format!("on the other machine: pilotctl join CODE     here: pilotctl {here}"));
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
    let client = daemon_or_start(Some(&code), args.hostname, output)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "pilot:qxj6tfd95kj6tfd9-5kj6tfd95kj6tfd9-5kj6tfd95kj6tfd9-5kj62qqqzg69v787-e2kskar9dcsxy7t5-v4ejzqxjf94ss0pu-8s7rc0pu8s7rc0pu-8s7rc0pu8s7rc0pu-8s7rc0pu8s7rc0pu-qgr9vu0zr8kchdtu-xktw2eg9m6awa";

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

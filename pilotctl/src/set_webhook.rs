//! Owns `set-webhook`.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon};
use crate::output::Output;
use pilot_node::{Code, Failure, Request};
use std::fs;
use std::path::PathBuf;

/// Sets the webhook, and shows the secret if the daemon has made it.
pub(crate) fn run(args: args::SetWebhook, output: &Output) -> Result<(), Failure> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path);
        text.map_err(|e| Failure::new(Code::InvalidArgument, format!("{}: {e}", path.display())))
    };
    let secret = args.secret_file.as_ref().map(read).transpose()?.map(|text| text.trim_end().to_owned());
    let is_made = secret.is_none();
    let request = Request::SetWebhook { url: args.url, insecure: Some(args.insecure), secret };
    let reply = daemon()?.request(&request, &[], Some(CALL_TIMEOUT))?;
    output.ok(&reply.data);
    if is_made {
        output.note("keep the secret for checking signatures: it is not shown again");
    }
    Ok(())
}

//! Owns the command `proxy`.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon};
use crate::output::Output;
use pilot_node::{Failure, Request};

/// Sets up, lists or removes proxies.
pub(crate) fn proxy(args: args::Proxy, output: &Output) -> Result<(), Failure> {
    let mut client = daemon()?;
    let request = match args.remove {
        Some(listen) => Request::Unproxy { listen },
        None if args.list => Request::Proxies,
        None => Request::Proxy {
            listen: args.listen,
            direct: args.direct.then_some(true),
            auth_file: args.auth.map(|path| absolute(&path)).transpose()?,
            temporary: args.foreground.then_some(true),
        },
    };
    let is_new = matches!(request, Request::Proxy { .. });
    let answer = client.request(&request, &[], Some(CALL_TIMEOUT))?.data;
    output.ok(&answer);
    if is_new && args.foreground {
        let listen = answer["listen"].as_str().unwrap_or_default();
        output
            .note(&format!("export ALL_PROXY=http://{listen} HTTP_PROXY=http://{listen} HTTPS_PROXY=http://{listen}"));
        // The proxy ends with this connection; the daemon's end ends the command.
        while client.next_event(None).is_ok() {}
    }
    Ok(())
}

/// The daemon reads the file, in a folder of its own.
fn absolute(path: &std::path::Path) -> Result<String, Failure> {
    Ok(std::path::absolute(path)?.display().to_string())
}

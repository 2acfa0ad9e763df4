//! Owns the tools for files: one that sends, one that lists what has arrived.

use crate::client::CALL_TIMEOUT;
use crate::deliver;
use crate::mcp::arguments::{Arguments, invalid};
use crate::mcp::calls::Call;
use crate::mcp::resources::file_uri;
use pilot_node::{Code, Failure, Request};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Sends a file. `below` is the folder that the file must lie in, if the owner named one.
pub(super) fn send_file(call: &Call, mut arguments: Arguments, below: Option<&Path>) -> Result<Value, Failure> {
    let (node, path) = (arguments.needed_text("node")?, PathBuf::from(arguments.needed_text("path")?));
    let timeout = arguments.seconds("timeout_s", 60)?;
    let path = permitted(&path, below)?;
    let stream = deliver::open_transfer(&mut call.client()?, &node, timeout)?;
    call.ends(&stream.socket)?;
    deliver::transfer(&stream, &path, call.progress())
}

/// The file's real place, if it may be sent.
fn permitted(path: &Path, below: Option<&Path>) -> Result<PathBuf, Failure> {
    let missing = |path: &Path, e: std::io::Error| Failure::new(Code::NotFound, format!("{}: {e}", path.display()));
    if path.is_relative() {
        return Err(invalid(format!("path: {} is not absolute", path.display())));
    }
    let real = path.canonicalize().map_err(|e| missing(path, e))?;
    let Some(below) = below else { return Ok(real) };
    let folder = below.canonicalize().map_err(|e| missing(below, e))?;
    if real.starts_with(&folder) {
        return Ok(real);
    }
    Err(invalid(format!("path: {} does not lie in {}", path.display(), folder.display()))
        .hint("the owner has limited this server: pilotctl mcp --files"))
}

/// Lists the files that have arrived, each with the address of its resource.
pub(super) fn received(call: &Call, arguments: Arguments) -> Result<Value, Failure> {
    let request = arguments.request("received")?;
    debug_assert_eq!(request, Request::Received);
    let mut data = call.client()?.request(&request, &[], Some(CALL_TIMEOUT))?.data;
    for file in data["files"].as_array_mut().into_iter().flatten() {
        file["uri"] = file_uri(file["name"].as_str().unwrap_or_default()).into();
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_outside_the_owners_folder_is_not_sent_by_any_name() {
        let folder = std::env::temp_dir().join(format!("pilot-mcp-files-{}", std::process::id()));
        let (inside, outside) = (folder.join("in"), folder.join("out.txt"));
        std::fs::create_dir_all(&inside).expect("a folder");
        std::fs::write(&outside, "x").expect("a file");
        std::fs::write(inside.join("a.txt"), "x").expect("a file");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("a link");
        let code = |path: PathBuf| permitted(&path, Some(&inside)).map_err(|f| f.code);
        assert!(code(inside.join("a.txt")).is_ok() && permitted(&outside, None).is_ok());
        for bad in [outside.clone(), inside.join("../out.txt"), inside.join("link"), PathBuf::from("a.txt")] {
            assert_eq!(code(bad.clone()), Err(Code::InvalidArgument), "{}", bad.display());
        }
        assert_eq!(code(inside.join("gone")), Err(Code::NotFound));
        std::fs::remove_dir_all(folder).expect("a folder");
    }
}

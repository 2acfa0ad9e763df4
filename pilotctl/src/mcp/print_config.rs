//! Owns the entries with which common agent programs start this server.

use crate::args::Mcp;
use pilot_node::{Code, Failure, socket_path};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Programs with a form of their own, and where the entry belongs.
const PROGRAMS: [(&str, &str); 7] = [
    ("generic", "the file of an MCP client with \"mcpServers\""),
    ("claude", ".mcp.json of a project, or claude_desktop_config.json"),
    ("cursor", "~/.cursor/mcp.json, or .cursor/mcp.json of a project"),
    ("vscode", ".vscode/mcp.json of a project"),
    ("gemini", "~/.gemini/settings.json"),
    ("codex", "~/.codex/config.toml"),
    ("zed", "settings.json of Zed"),
];

/// The entry for one program, and where it belongs.
pub(super) fn entry(args: &Mcp) -> Result<(String, &'static str), Failure> {
    let name = args.program.as_deref().unwrap_or("generic");
    let Some((name, place)) = PROGRAMS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = PROGRAMS.iter().map(|(known, _)| *known).collect();
        return Err(
            Failure::new(Code::InvalidArgument, format!("there is no entry for {name:?}")).hint(known.join(", "))
        );
    };
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pilotctl"));
    let environment = environment();
    Ok((form(name, &program.to_string_lossy(), &arguments(args), &environment), place))
}

/// What the server needs to know to find the daemon that is found here. Agent programs hand few variables on.
fn environment() -> Map<String, Value> {
    let named = ["PILOT_HOME", "PILOT_SOCKET"].into_iter().filter_map(|key| Some((key, std::env::var(key).ok()?)));
    let mut environment: Map<String, Value> = named.map(|(key, value)| (key.to_owned(), value.into())).collect();
    if environment.is_empty() && std::env::var_os("XDG_RUNTIME_DIR").is_some() {
        environment.insert("PILOT_SOCKET".into(), socket_path().to_string_lossy().into());
    }
    environment
}

/// The arguments with which the program starts the server as it was asked for here.
fn arguments(args: &Mcp) -> Vec<String> {
    let mut out = vec!["mcp".to_owned()];
    if args.allow_approve {
        out.push("--allow-approve".into());
    }
    if let Some(files) = &args.files {
        let absolute = std::path::absolute(files).unwrap_or_else(|_| files.clone());
        out.extend(["--files".into(), absolute.to_string_lossy().into_owned()]);
    }
    out
}

fn form(name: &str, program: &str, arguments: &[String], environment: &Map<String, Value>) -> String {
    let server = json!({"command": program, "args": arguments, "env": environment});
    let value = match name {
        "vscode" => {
            let mut server = server;
            server["type"] = "stdio".into();
            json!({"servers": {"pilot": server}})
        }
        "zed" => json!({"context_servers": {"pilot": server}}),
        "codex" => {
            // JSON's strings and lists of strings are TOML's too.
            let mut out = format!("[mcp_servers.pilot]\ncommand = {}\nargs = {}\n", server["command"], server["args"]);
            if !environment.is_empty() {
                out.push_str("\n[mcp_servers.pilot.env]\n");
                environment.iter().for_each(|(key, value)| out.push_str(&format!("{key} = {value}\n")));
            }
            return out.trim_end().to_owned();
        }
        _ => json!({"mcpServers": {"pilot": server}}),
    };
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_gets_its_own_form() {
        let environment = json!({"PILOT_HOME": "/a \"b\""});
        let environment = environment.as_object().expect("an object");
        let arguments = ["mcp".to_owned(), "--allow-approve".into()];
        let made = |name| form(name, "/bin/pilotctl", &arguments, environment);
        for (name, key) in [
            ("generic", "mcpServers"),
            ("claude", "mcpServers"),
            ("cursor", "mcpServers"),
            ("vscode", "servers"),
            ("zed", "context_servers"),
        ] {
            let value: Value = serde_json::from_str(&made(name)).expect(name);
            let server = &value[key]["pilot"];
            assert_eq!((&server["command"], &server["args"][1]), (&json!("/bin/pilotctl"), &json!("--allow-approve")));
            assert_eq!(server["env"]["PILOT_HOME"], "/a \"b\"");
        }
        let toml = made("codex");
        assert!(
            toml.contains("args = [\"mcp\",\"--allow-approve\"]") && toml.ends_with("PILOT_HOME = \"/a \\\"b\\\"\""),
            "{toml}"
        );
    }
}

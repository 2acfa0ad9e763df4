//! Owns the settings file, `config.json` in the daemon's folder: what it may hold, how it is changed, and how a daemon that
//! runs takes a change.

use crate::args::Init;
use crate::output::Output;
use crate::rendezvous::write_whole;
use pilot_node::{Code, Failure, Home, LogLevel, Node, RendezvousConfig, Request, socket_path};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Reads the settings: an object with texts; empty when there is none.
pub(crate) fn read() -> Result<Map<String, Value>, Failure> {
    let path = path();
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|e| Failure::new(Code::InvalidArgument, format!("{}: {e}", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(e) => Err(Failure::new(Code::Internal, format!("{}: {e}", path.display()))),
    }
}

pub(crate) fn path() -> PathBuf {
    Home::default_path().join("config.json")
}

/// The setting that a flag, a variable or the settings file gives, in this order.
pub(crate) fn setting(
    settings: &Map<String, Value>,
    flag: Option<String>,
    variable: &str,
    key: &str,
) -> Result<Option<String>, Failure> {
    let given = match flag {
        None => std::env::var_os(variable).filter(|value| !value.is_empty()).map(OsString::into_string).transpose(),
        flag => Ok(flag),
    };
    let given =
        given.map_err(|value| Failure::new(Code::InvalidArgument, format!("{variable}: {value:?} is not UTF-8")))?;
    Ok(given.or_else(|| settings.get(key)?.as_str().map(str::to_owned)))
}

/// The level of the log that a flag or the settings file gives, in this order.
pub(crate) fn log_level(settings: &Map<String, Value>, flag: Option<LogLevel>) -> Result<Option<LogLevel>, Failure> {
    match settings.get("log_level").and_then(Value::as_str) {
        Some(text) if flag.is_none() && !text.is_empty() => level(text).map(Some),
        _ => Ok(flag),
    }
}

fn level(text: &str) -> Result<LogLevel, Failure> {
    text.parse().map_err(|_| {
        Failure::new(Code::InvalidArgument, format!("{text:?} is no level")).hint("error, warn, info or debug")
    })
}

/// Refuses what no setting can be. An empty value takes a setting back.
fn check(key: &str, value: &str) -> Result<(), Failure> {
    match key {
        "rendezvous" | "hostname" | "log_level" if value.is_empty() => Ok(()),
        "rendezvous" => match value.parse::<RendezvousConfig>() {
            Ok(_) => Ok(()),
            Err(e) => Err(Failure::new(Code::InvalidArgument, e)),
        },
        "hostname" if !pilot_core::identity::valid_hostname(value) => {
            Err(Failure::new(Code::InvalidArgument, format!("{value:?} cannot be a hostname"))
                .hint("1–63 characters of a–z 0–9 -"))
        }
        "hostname" => Ok(()),
        "log_level" => level(value).map(drop),
        other => Err(Failure::new(Code::InvalidArgument, format!("there is no setting {other:?}"))
            .hint("rendezvous, hostname, log_level")),
    }
}

pub(crate) fn init(args: &Init, output: &Output) -> Result<(), Failure> {
    if let Some(rendezvous) = &args.rendezvous {
        set("rendezvous", rendezvous)?;
    }
    if let Some(hostname) = &args.hostname {
        set("hostname", hostname)?;
    }
    config(None, output)
}

pub(crate) fn config(change: Option<&str>, output: &Output) -> Result<(), Failure> {
    if let Some(change) = change {
        let (key, value) =
            change.split_once('=').ok_or_else(|| Failure::new(Code::InvalidArgument, "--set wants KEY=VALUE"))?;
        set(key, value)?;
    }
    let mut settings = read()?;
    settings.insert("config_path".into(), json!(path()));
    settings.insert("socket".into(), json!(socket_path()));
    output.ok(&Value::Object(settings));
    Ok(())
}

fn set(key: &str, value: &str) -> Result<(), Failure> {
    check(key, value)?;
    let (path, mut settings) = (path(), read()?);
    settings.insert(key.into(), value.into());
    let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", path.display()));
    fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(error)?;
    write_whole(&path, &Value::Object(settings).to_string()).map_err(error)
}

/// Keeps the rendezvous that a code names, so that the daemon's next start uses it, too.
pub(crate) fn keep_rendezvous(rendezvous: Option<String>) -> Result<Option<String>, Failure> {
    rendezvous.iter().try_for_each(|text| set("rendezvous", text))?;
    Ok(rendezvous)
}

/// The settings as a daemon has read them last.
pub(crate) struct Watched(Map<String, Value>);

impl Watched {
    /// The settings now. A file that cannot be read counts as empty: the daemon that starts has told of it.
    pub(crate) fn new() -> Self {
        Self(read().unwrap_or_default())
    }

    /// Reads the settings again. What has changed since comes into force, or the log tells why it does not; settings that did
    /// not change stay as flags, variables and commands have made them.
    pub(crate) fn read_again(&mut self, node: &Node) {
        let settings = match read() {
            Ok(settings) => settings,
            Err(failure) => return node.note_setting("config.json", Err(failure.message)),
        };
        let removed = self.0.keys().filter(|key| !settings.contains_key(*key));
        for key in settings.keys().chain(removed) {
            if settings.get(key) != self.0.get(key) {
                let value = settings.get(key).map_or(Some(""), Value::as_str);
                apply(node, key, value);
            }
        }
        self.0 = settings;
    }
}

/// Lets a changed setting come into force; `None` is a value that is no text.
fn apply(node: &Node, key: &str, value: Option<&str>) {
    let note = |failure: Failure| node.note_setting(key, Err(failure.message));
    let Some(value) = value else {
        return note(Failure::new(Code::InvalidArgument, "the value is no text"));
    };
    match (check(key, value), key) {
        (Err(failure), _) => note(failure),
        // The log tells of this by itself.
        (Ok(()), "log_level") => node.set_log_level(level(value).unwrap_or(LogLevel::Info)),
        (Ok(()), "hostname") => {
            let (node, hostname) = (node.clone(), value.to_owned());
            // The answer waits for the rendezvous, and signals do not.
            std::thread::spawn(move || {
                let profile = Request::Profile { hostname: Some(hostname), public: None, tags: None };
                let outcome = node.request(profile, Vec::new());
                node.note_setting("hostname", outcome.map(drop).map_err(|failure| failure.message));
            });
        }
        (Ok(()), _) => node.note_setting(key, Err("it takes effect when the daemon starts again".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_comes_before_the_file_and_bad_settings_are_refused() {
        let settings = Map::from_iter([("log_level".to_owned(), json!("debug"))]);
        assert_eq!(log_level(&settings, None), Ok(Some(LogLevel::Debug)));
        assert_eq!(log_level(&settings, Some(LogLevel::Warn)), Ok(Some(LogLevel::Warn)));
        assert_eq!(log_level(&Map::new(), None), Ok(None));
        for (key, value) in [("log_level", "loud"), ("hostname", "Not A Name"), ("rendezvous", "x"), ("port", "1")] {
            assert!(check(key, value).is_err(), "{key}={value}");
        }
        for key in ["log_level", "hostname", "rendezvous"] {
            assert_eq!(check(key, ""), Ok(()));
        }
    }
}

//! The C example is compiled as strictly as C allows and run against the library as C programs would use it.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_rendezvous::server::{Server, ServerConfig};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo puts the `libpilot.so` that belongs to this very test: beside its program.
fn library_folder() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

#[test]
fn a_c_program_starts_nodes_and_talks() {
    let folder = std::env::temp_dir().join(format!("pilot-c-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (here, libraries) = (Path::new(env!("CARGO_MANIFEST_DIR")), library_folder());
    let program = folder.join("talk");
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-I"])
        .arg(here.join("include"))
        .arg("-o")
        .arg(&program)
        .arg(here.join("examples/talk.c"))
        .arg("-L")
        .arg(&libraries)
        .args(["-lpilot", "-lpthread"])
        .status()
        .expect("a C compiler");
    assert!(compiled.success());

    let config =
        ServerConfig { home: folder.join("rendezvous"), listen: "127.0.0.1:0".parse().unwrap(), idle_exit: None };
    let server = Server::bind(&config).unwrap();
    let (key, addr) = server.endpoint();
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || server.run());
    let output = Command::new(&program)
        .args([format!("{key}@{addr}"), folder.display().to_string()])
        .env("LD_LIBRARY_PATH", &libraries)
        .output()
        .unwrap();
    stopper.stop();
    thread.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("execute_query"));
    std::fs::remove_dir_all(folder).unwrap();
}

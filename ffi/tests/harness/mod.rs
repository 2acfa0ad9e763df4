//! Owns the shared parts of the library's tests: folders, tools, a rendezvous, nodes, C programs.
#![allow(dead_code, reason = "each test program uses a part of it")]

use pilot_node::answer::RendezvousState;
use pilot_node::{Config, Node, RendezvousConfig, Terms};
use pilot_rendezvous::server::{Server, ServerConfig, Stopper};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// Returns the package's folder.
pub(crate) fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the folder with the `libpilot.so` of this build, which is the folder of the test's program.
pub(crate) fn library_folder() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// Finds a program of the system. Where it is missing, the test prints that and is skipped; in CI it fails.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is needed in CI");
        println!("skipped: {name} is not installed");
    }
    found
}

/// A temporary folder, removed when the value is dropped.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("pilot-ffi-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A rendezvous of this process, and a folder for nodes.
pub(crate) struct Lab {
    pub(crate) folder: Folder,
    pub(crate) endpoint: String,
    stopper: Stopper,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let config = ServerConfig {
            home: folder.path.join("rendezvous"),
            listen: "127.0.0.1:0".parse().unwrap(),
            idle_exit: None,
        };
        let server = Server::bind(&config).unwrap();
        let ((key, addr), stopper) = (server.endpoint(), server.stopper());
        let server = Some(std::thread::spawn(move || server.run()));
        Self { folder, endpoint: format!("{key}@{addr}"), stopper, server }
    }

    /// Starts a node with the services of the daemon and the socket `NAME.sock` in the folder.
    pub(crate) fn daemon(&self, name: &str) -> Node {
        let mut config = Config::daemon(self.folder.path.join(name));
        config.hostname = Some(name.into());
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.rendezvous = self.endpoint.parse::<RendezvousConfig>().unwrap();
        config.socket = Some(self.socket(name));
        let node = Node::start(config).unwrap();
        until("it is registered", || node.info().unwrap().rendezvous == RendezvousState::Ready);
        node
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.folder.path.join(format!("{name}.sock"))
    }

    /// Starts two daemons and lets their owners approve each other, for every port.
    pub(crate) fn pair(&self) -> (Node, Node) {
        let (a, b) = (self.daemon("node-a"), self.daemon("node-b"));
        befriend(&a, &b, "node-b", "node-a");
        (a, b)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stopper.stop();
        self.server.take().unwrap().join().unwrap().unwrap();
    }
}

pub(crate) fn befriend(a: &Node, b: &Node, b_name: &str, a_name: &str) {
    a.trust().handshake(b_name, Terms::default().ports("all")).unwrap();
    until("the request arrives", || !b.trust().pending().unwrap().pending.is_empty());
    b.trust().approve(a_name, Terms::default().ports("all")).unwrap();
    until("the approval arrives", || a.trust().pins().unwrap().total == 1);
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "until {what}: 20 s have passed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Compiles a C program of `examples/` or `tests/c/` with every warning as an error.
pub(crate) fn compile(source: &str, folder: &Path, flags: &[&str]) -> PathBuf {
    let libraries = library_folder();
    let source = here().join(source);
    let program = folder.join(source.file_stem().unwrap());
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1", "-I"])
        .arg(here().join("include"))
        .args(cfg!(feature = "portable-platform").then_some("-DPORTABLE_PLATFORM"))
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .arg("-L")
        .arg(&libraries)
        .args(["-lpilot", "-lpthread", &format!("-Wl,-rpath,{}", libraries.display())])
        .status()
        .expect("a C compiler");
    assert!(compiled.success(), "{}", source.display());
    // Programs ask for the library by its SONAME.
    let name = libraries.join("libpilot.so.0");
    if !name.exists() {
        let _ = std::os::unix::fs::symlink("libpilot.so", &name); // another test may have been faster
    }
    program
}

/// Runs a program that must succeed within ten minutes, in which some build everything; returns its output.
pub(crate) fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = run_any(command);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

pub(crate) fn run_any(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if wait.recv_timeout(Duration::from_secs(600)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-9", &id]).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    output
}

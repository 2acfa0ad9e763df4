//! Tests an installed tree, as users have it: programs built against it with pkg-config, and the Go package.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, here, run, tool};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static PREFIX: OnceLock<PathBuf> = OnceLock::new();

/// Installs with the features that this test was built with, and without any optimisation.
fn install(args: &[&str]) -> Command {
    let features: &[&str] =
        if cfg!(feature = "portable-platform") { &["--features", "portable-platform"] } else { &[] };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "-p", "xtask", "--", "install", "--profile", "quick"]).args(features).args(args);
    command.env_remove("DESTDIR").env_remove("PREFIX").current_dir(here().parent().unwrap());
    command
}

/// Installs for the tests. The place is always the same, because Go's cache does not notice another
/// answer of pkg-config.
fn prefix() -> &'static Path {
    PREFIX.get_or_init(|| {
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prefix");
        run(&mut install(&["--prefix", prefix.to_str().unwrap()]));
        prefix
    })
}

#[test]
fn the_go_package_passes_its_tests_under_the_race_detector() {
    let (Some(go), Some(_)) = (tool("go"), tool("pkg-config")) else { return };
    let lab = Lab::new("go");
    let mut test = Command::new(go);
    test.args(["test", "-race", "-count=1", "-timeout=200s", "./..."]).current_dir(here().join("go"));
    test.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig")).env("LD_LIBRARY_PATH", prefix().join("lib"));
    test.env("CGO_ENABLED", "1").env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"));
    let text = run(test.env("PILOT_TEST_RENDEZVOUS", &lab.endpoint));
    assert!(text.contains("ok"), "{text}");
}

#[test]
fn examples_are_made_from_the_installed_tree_shared_and_static() {
    let (Some(make), Some(_)) = (tool("make"), tool("pkg-config")) else { return };
    for (form, flags) in [("shared", None), ("static", Some("STATIC=1"))] {
        let lab = Lab::new("make");
        let out = lab.folder.path.join(form);
        std::fs::create_dir_all(&out).unwrap();
        let mut command = Command::new(&make);
        command.arg("-C").arg(here().join("examples")).arg(format!("OUT={}", out.display())).args(flags);
        run(command.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig")));
        // The dependencies of the program show the form of the library: the SONAME, or none for the static one.
        let needed = Command::new("readelf").arg("-d").arg(out.join("talk")).output().unwrap();
        let needed = String::from_utf8_lossy(&needed.stdout).into_owned();
        assert_eq!(needed.contains("[libpilot.so.0]"), form == "shared", "{needed}");
        assert_eq!(needed.contains("NEEDED"), form == "shared", "{needed}");
        let text = run(Command::new(out.join("talk")).arg(&lab.endpoint).arg(out.join("nodes")));
        assert!(text.contains("echo: {\"action\":\"execute_query\"}"), "{text}");
    }
}

#[test]
fn packagers_put_a_tree_together_elsewhere() {
    let stage = harness::Folder::new("stage");
    let stage_text = stage.path.to_str().unwrap();
    run(install(&[]).env("DESTDIR", stage_text).env("PREFIX", "/opt/pilot"));
    let tree = stage.path.join("opt/pilot");
    for file in ["bin/pilotctl", "bin/pilot-daemon", "bin/pilot-rendezvous", "include/pilot.h", "lib/libpilot.a"] {
        assert!(tree.join(file).is_file(), "{file}");
    }
    assert_eq!(std::fs::read_link(tree.join("lib/libpilot.so")).unwrap(), Path::new("libpilot.so.0"));
    let pc = std::fs::read_to_string(tree.join("lib/pkgconfig/pilot.pc")).unwrap();
    assert!(pc.contains("prefix=/opt/pilot\n") && !pc.contains(stage_text), "{pc}");
    let version = run(Command::new(tree.join("bin/pilotctl")).arg("version"));
    assert!(version.contains(env!("CARGO_PKG_VERSION")));
    let refused = install(&["--prefix", "relative"]).output().unwrap();
    assert!(!refused.status.success());
}

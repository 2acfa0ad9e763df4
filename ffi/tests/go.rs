//! The Go package against an installed tree, under the race detector.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, here, run, tool};
use std::path::Path;
use std::process::Command;

#[test]
fn the_go_package_passes_its_tests_under_the_race_detector() {
    let (Some(go), Some(_)) = (tool("go"), tool("pkg-config")) else { return };
    let lab = Lab::new("go");
    // Always the same place, with a cache of its own: Go's does not notice when pkg-config answers otherwise.
    let (prefix, cache) = (Path::new(env!("CARGO_TARGET_TMPDIR")).join("prefix"), env!("CARGO_TARGET_TMPDIR"));
    // What a user installs, without the optimisation of a release: only that is tested elsewhere.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = Command::new(cargo);
    install.args(["run", "--quiet", "-p", "xtask", "--", "install", "--profile", "dev", "--prefix"]).arg(&prefix);
    install.current_dir(here().parent().unwrap());
    install.env_remove("DESTDIR").env_remove("PREFIX");
    run(&mut install);
    let mut test = Command::new(go);
    test.args(["test", "-race", "-count=1", "-timeout=110s", "./..."]).current_dir(here().join("go"));
    test.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).env("LD_LIBRARY_PATH", prefix.join("lib"));
    let text = run(test
        .env("PILOT_TEST_RENDEZVOUS", &lab.endpoint)
        .env("CGO_ENABLED", "1")
        .env("GOCACHE", format!("{cache}/go")));
    assert!(text.contains("ok"), "{text}");
}

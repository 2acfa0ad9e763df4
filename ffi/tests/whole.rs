//! Runs the parts of the C interface that no example uses, with nodes of the process and with daemons.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, compile, run};
use std::process::Command;

#[test]
fn every_part_works_with_nodes_of_the_process() {
    let lab = Lab::new("whole-own");
    let program = compile("tests/c/whole.c", &lab.folder.path, &[]);
    let text = run(Command::new(program).arg("own").arg(&lab.folder.path).arg(&lab.endpoint));
    assert_eq!(text, "ok\n");
}

#[test]
fn every_part_works_with_daemons() {
    let lab = Lab::new("whole-daemons");
    let _nodes = lab.pair();
    let program = compile("tests/c/whole.c", &lab.folder.path, &["-fsanitize=address,undefined"]);
    let mut command = Command::new(program);
    command.arg("attach").arg(&lab.folder.path).args([lab.socket("node-a"), lab.socket("node-b")]);
    assert_eq!(run(&mut command), "ok\n");
}

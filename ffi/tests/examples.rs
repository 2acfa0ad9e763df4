//! Compiles the C examples with every warning as an error, and runs them as a user does: in processes of their own, attached
//! to daemons or with a node inside.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, compile, run, until};
use pilot_node::Terms;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the line that a server prints when it is ready.
fn ready(child: &mut Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "listening\n");
}

fn finish(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

fn attached(program: &Path, args: &[&str], socket: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).arg("attach").arg(socket);
    command
}

#[test]
fn two_nodes_in_one_program_talk() {
    let lab = Lab::new("talk");
    let program = compile("examples/talk.c", &lab.folder.path, &[]);
    let text = run(Command::new(program).arg(&lab.endpoint).arg(&lab.folder.path));
    assert!(text.contains("request from c-primary") && text.contains("echo: {\"action\":\"execute_query\"}"), "{text}");
}

#[test]
fn an_echo_server_with_poll_serves_several_clients_at_once() {
    let lab = Lab::new("echo");
    let _nodes = lab.pair();
    let program = compile("examples/echo.c", &lab.folder.path, &[]);
    let mut server = spawn(&mut attached(&program, &["server", "5000", "4"], &lab.socket("node-b")));
    ready(&mut server);
    let clients: Vec<Child> = ["0", "1", "100000", "20000000"]
        .iter()
        .map(|bytes| spawn(&mut attached(&program, &["client", "node-b", "5000", bytes], &lab.socket("node-a"))))
        .collect();
    let texts: Vec<String> = clients.into_iter().map(finish).collect();
    assert!(texts[3].contains("20000000 bytes from node-b and back"), "{texts:?}");
    finish(server);
}

#[test]
fn two_processes_chat() {
    let lab = Lab::new("chat");
    let _nodes = lab.pair();
    let program = compile("examples/chat.c", &lab.folder.path, &[]);
    let mut waiting = spawn(&mut attached(&program, &["wait", "5000"], &lab.socket("node-b")));
    let mut line = String::new();
    let mut notes = BufReader::new(waiting.stderr.take().unwrap());
    notes.read_line(&mut line).unwrap();
    assert_eq!(line, "waiting\n");
    let mut calling = spawn(&mut attached(&program, &["call", "node-b", "5000"], &lab.socket("node-a")));
    calling.stdin.as_mut().unwrap().write_all(b"are you there?\n").unwrap();
    let mut heard = BufReader::new(waiting.stdout.take().unwrap());
    line.clear();
    heard.read_line(&mut line).unwrap();
    assert_eq!(line, "are you there?\n");
    waiting.stdin.take().unwrap().write_all(b"yes\n").unwrap(); // and the end of input
    calling.stdin.take();
    assert_eq!(finish(calling), "yes\n");
    finish(waiting);
}

#[test]
fn a_file_goes_through_a_stream_with_sendfile() {
    let lab = Lab::new("sendfile");
    let (_a, b) = lab.pair();
    let program = compile("examples/sendfile.c", &lab.folder.path, &[]);
    let path = lab.folder.path.join("data");
    let data: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &data).unwrap();
    let listener = b.listen(5000).unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        listener.accept().unwrap().read_to_end(&mut got).unwrap();
        got
    });
    let args = ["node-b", "5000", path.to_str().unwrap()];
    assert_eq!(run(&mut attached(&program, &args, &lab.socket("node-a"))), "12000000 bytes\n");
    assert!(reader.join().unwrap() == data);
}

#[test]
fn one_epoll_loop_serves_pilot_and_ordinary_sockets() {
    let lab = Lab::new("loop");
    let _nodes = lab.pair();
    let program = compile("examples/loop.c", &lab.folder.path, &[]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut proxy = spawn(&mut attached(&program, &[&port.to_string(), "node-b", "7", "5"], &lab.socket("node-a")));
    ready(&mut proxy);
    let clients: Vec<_> = (0..5)
        .map(|i: usize| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let data = vec![i as u8; 1_000_000 * i];
                let mut writer = stream.try_clone().unwrap();
                let sent = data.clone();
                let sender = std::thread::spawn(move || {
                    writer.write_all(&sent).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                sender.join().unwrap();
                assert!(got == data);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    finish(proxy);
}

#[test]
fn a_small_device_stays_within_its_memory() {
    let lab = Lab::new("edge");
    let b = lab.daemon("node-b");
    let program = compile("examples/edge.c", &lab.folder.path, &[]);
    // A build for tests is larger than a release, which has its budget in `xtask sizes`.
    let mut device = Command::new(program);
    device.args(["node-b", "14000"]).arg(&lab.folder.path).args(["device", &lab.endpoint]);
    let mut device = spawn(&mut device);
    until("the request arrives", || !b.trust().pending().unwrap().pending.is_empty());
    b.trust().approve("device", Terms::default()).unwrap();
    let lines: String = (0..200).map(|i| format!("temperature {i}\n")).collect();
    device.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let text = finish(device);
    assert!(text.starts_with("200 reports"), "{text}");
    assert_eq!(b.messages().inbox(1).unwrap().total, 200);
}

//! The NAT laboratory: two private hosts behind routers of any kind, two public hosts, and real daemons on them, out of network
//! namespaces of this machine (root, Linux, `ip`, `nft` and `iptables-nft`).
//!
//! ```text
//!   a 10.1.0.2 -- ra --[wa]--\                /--[pub0]-- pub  203.0.113.10 and .11 (the rendezvous)
//!                             inet (the core)
//!   b 10.2.0.2 -- rb --[wb]--/
//! ```
//! Each access link (`wa`, `wb`) delays packets both ways; the other links take no time. So a relayed way and a direct one have the
//! same round trip, four delays.

pub mod daemons;
mod delay;
mod flows;
mod proxy;
pub mod router;

use router::Kind;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where the rendezvous serves.
pub const RENDEZVOUS: &str = "203.0.113.10:9000";
/// The public host's second address, for what serves beside the rendezvous.
const BESIDE: &str = "203.0.113.11";

/// Lets the process become one of the laboratory's own, if its arguments ask for that; never comes back then.
pub fn become_what_is_asked() {
    flows::forget_if_asked();
    delay::become_emulator();
    proxy::become_proxy();
}

/// What went wrong with the laboratory, in words.
pub type Outcome<T> = Result<T, String>;

/// One of the two private hosts, with its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Host `a`.
    A,
    /// Host `b`.
    B,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The host's name.
    pub const fn host(self) -> &'static str {
        ["a", "b"][self as usize]
    }

    const fn router(self) -> &'static str {
        ["ra", "rb"][self as usize]
    }

    /// The core's interface towards the router.
    const fn wire(self) -> &'static str {
        ["wa", "wb"][self as usize]
    }

    const fn number(self) -> usize {
        self as usize + 1
    }

    /// The core's address on the access link, and those that the router may have there.
    fn outer(self) -> [String; 3] {
        [1, 2, 3].map(|last| format!("198.51.100.{}", 8 * (self.number() - 1) + last))
    }

    /// The host's address, its router's, and the net of both.
    fn inner(self, kind: Kind) -> [String; 3] {
        let n = self.number();
        let [prefix, len] = if kind.is_public() {
            [format!("192.0.2.{}", 16 * n), "28".into()]
        } else {
            [format!("10.{n}.0.0"), "24".into()]
        };
        let (net, last) = prefix.rsplit_once('.').unwrap_or((&prefix, "0"));
        let first: usize = last.parse().unwrap_or(0);
        [format!("{net}.{}/{len}", first + 2), format!("{net}.{}/{len}", first + 1), format!("{prefix}/{len}")]
    }
}

/// The namespaces, which are removed, with every process in them, when the value is dropped.
pub struct Lab {
    tag: String,
    emulator: Option<Child>,
    kinds: [Kind; 2],
}

impl Lab {
    const SPACES: [&str; 6] = ["inet", "pub", "a", "b", "ra", "rb"];

    /// Builds the laboratory; packets take `delay` on each access link. `number` tells laboratories of one process apart.
    ///
    /// # Errors
    /// Without the right to make namespaces, or without `ip` or `nft`.
    pub fn new(number: usize, kinds: [Kind; 2], delay: Duration) -> Outcome<Self> {
        let mut lab = Self { tag: format!("{}-{number}", std::process::id()), emulator: None, kinds };
        for space in Self::SPACES {
            lab.ip(&["netns", "add", &lab.space(space)])?;
            lab.ip(&["-n", &lab.space(space), "link", "set", "lo", "up"])?;
        }
        for space in ["inet", "ra", "rb"] {
            lab.inside(space, &["sysctl", "-qw", "net.ipv4.ip_forward=1"], "")?;
        }
        lab.wire(("pub", "eth0", "203.0.113.10/24"), ("inet", "pub0", "203.0.113.1/24"))?;
        lab.ip(&["-n", &lab.space("pub"), "addr", "add", &format!("{BESIDE}/24"), "dev", "eth0"])?;
        lab.route("pub", "default", "203.0.113.1")?;
        for (side, kind) in Side::BOTH.into_iter().zip(kinds) {
            let [host, gateway, net] = side.inner(kind);
            let [core, public, _] = side.outer();
            let (router, at) = (side.router(), |addr: &str| addr.split('/').next().unwrap_or_default().to_owned());
            lab.wire((side.host(), "eth0", &host), (router, "lan0", &gateway))?;
            lab.wire((router, "wan0", &format!("{public}/29")), ("inet", side.wire(), &format!("{core}/29")))?;
            lab.route(side.host(), "default", &at(&gateway))?;
            lab.route(router, "default", &core)?;
            if kind.is_public() {
                lab.route("inet", &net, &public)?;
            }
            lab.set_rules(side, &public)?;
        }
        lab.count_packets()?;
        if !delay.is_zero() {
            lab.emulator = Some(lab.emulate(delay)?);
        }
        Ok(lab)
    }

    fn space(&self, name: &str) -> String {
        format!("pilot-{name}-{}", self.tag)
    }

    /// The name of a namespace with this host, router or core.
    pub fn namespace(&self, name: &str) -> String {
        self.space(name)
    }

    fn ip(&self, args: &[&str]) -> Outcome<()> {
        run(Command::new("ip").args(args), "")
    }

    fn wire(&self, a: (&str, &str, &str), b: (&str, &str, &str)) -> Outcome<()> {
        let [from, to] = [a, b].map(|(space, ..)| self.space(space));
        self.ip(&["-n", &from, "link", "add", a.1, "type", "veth", "peer", "name", b.1, "netns", &to])?;
        for (space, interface, addr) in [a, b] {
            self.ip(&["-n", &self.space(space), "addr", "add", addr, "dev", interface])?;
            self.ip(&["-n", &self.space(space), "link", "set", interface, "up"])?;
        }
        Ok(())
    }

    fn route(&self, space: &str, to: &str, via: &str) -> Outcome<()> {
        self.ip(&["-n", &self.space(space), "route", "add", to, "via", via])
    }

    /// Runs a command in a namespace, with this text as its input.
    ///
    /// # Errors
    /// When the command fails, with what it says.
    pub fn inside(&self, space: &str, command: &[&str], input: &str) -> Outcome<()> {
        run(&mut self.command(space, command), input)
    }

    /// A command in a namespace.
    pub fn command(&self, space: &str, command: &[&str]) -> Command {
        let mut inner = Command::new("ip");
        inner.args(["netns", "exec", &self.space(space)]).args(command);
        inner
    }

    /// Gives a side's router its rules.
    fn set_rules(&self, side: Side, public: &str) -> Outcome<()> {
        let kind = self.kinds[side as usize];
        let [_, _, net] = side.inner(kind);
        // Another seed each time: a router that was restarted maps ports otherwise.
        let seed = std::collections::hash_map::RandomState::new();
        let seed = std::hash::BuildHasher::hash_one(&seed, ()) as u32;
        self.inside(side.router(), &["nft", "-f", "-"], &kind.rules(public, &net, seed))
    }

    /// Restarts a side's router: it forgets every flow, and has the first of its public addresses.
    ///
    /// # Errors
    /// When `nft` refuses the rules.
    pub fn restart_router(&self, side: Side) -> Outcome<()> {
        self.move_router(side, 1)
    }

    /// Gives a side's router another public address, as a line does that is dialled again.
    ///
    /// # Errors
    /// When `ip` or `nft` refuse it.
    pub fn change_address(&self, side: Side) -> Outcome<()> {
        self.move_router(side, 2)
    }

    fn move_router(&self, side: Side, outer: usize) -> Outcome<()> {
        let (router, addrs) = (self.space(side.router()), side.outer());
        // An address that is taken away ends the flows that were mapped to it.
        self.ip(&["-n", &router, "addr", "flush", "dev", "wan0"])?;
        self.ip(&["-n", &router, "addr", "add", &format!("{}/29", addrs[outer]), "dev", "wan0"])?;
        self.route(side.router(), "default", &addrs[0])?;
        let kind = self.kinds[side as usize];
        if kind.is_public() {
            let [_, _, net] = side.inner(kind);
            self.ip(&["-n", &self.space("inet"), "route", "replace", &net, "via", &addrs[outer]])?;
        }
        self.set_rules(side, &addrs[outer])?;
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        self.inside(side.router(), &[&program.to_string_lossy(), flows::ARGUMENT], "")
    }

    /// Gives a side's host another address in its net.
    ///
    /// # Errors
    /// When `ip` refuses it.
    pub fn roam(&self, side: Side) -> Outcome<()> {
        let (space, [host, gateway, _]) = (self.space(side.host()), side.inner(self.kinds[side as usize]));
        let (place, len) = host.split_once('/').ok_or("an address with its length")?;
        let (net, last) = place.rsplit_once('.').ok_or("an IPv4 address")?;
        let moved = format!("{net}.{}/{len}", last.parse::<u8>().map_err(|e| e.to_string())? + 1);
        self.ip(&["-n", &space, "addr", "add", &moved, "dev", "eth0"])?;
        self.ip(&["-n", &space, "addr", "del", &host, "dev", "eth0"])?;
        self.ip(&["-n", &space, "addr", "replace", &moved, "dev", "eth0"])?;
        let via = gateway.split('/').next().unwrap_or_default();
        self.ip(&["-n", &space, "route", "replace", "default", "via", via])
    }

    /// Cuts the direct way from one side to the other: the relay is not affected.
    ///
    /// # Errors
    /// When `nft` refuses the rule.
    pub fn cut(&self, from: Side) -> Outcome<()> {
        let to = Side::BOTH[1 - from as usize];
        let rule = format!("add rule inet count cut iifname {} oifname {} drop", from.wire(), to.wire());
        self.inside("inet", &["nft", &rule], "")
    }

    /// Takes back what [`Lab::cut`] did.
    ///
    /// # Errors
    /// As there.
    pub fn mend(&self) -> Outcome<()> {
        self.inside("inet", &["nft", "flush chain inet count cut"], "")
    }

    /// Lets no UDP of a side pass, in either direction.
    ///
    /// # Errors
    /// When `nft` refuses the rule.
    pub fn block_udp(&self, side: Side) -> Outcome<()> {
        self.inside(side.router(), &["nft", "add rule inet filter block meta l4proto udp drop"], "")
    }

    /// Lets a side's packets reach nothing but the HTTPS proxy.
    ///
    /// # Errors
    /// When `nft` refuses the rule.
    pub fn block_all_but_proxy(&self, side: Side) -> Outcome<()> {
        let rule = format!("add rule inet filter block iifname lan0 ip daddr != {BESIDE} drop");
        self.block_udp(side)?;
        self.inside(side.router(), &["nft", &rule], "")
    }

    /// Takes back what [`Lab::block_udp`] did.
    ///
    /// # Errors
    /// As there.
    pub fn unblock(&self, side: Side) -> Outcome<()> {
        self.inside(side.router(), &["nft", "flush chain inet filter block"], "")
    }

    fn count_packets(&self) -> Outcome<()> {
        let rules = "table inet count {
            chain forward { type filter hook forward priority 0; iifname { \"wa\", \"wb\" } oifname { \"wa\", \"wb\" } meta l4proto udp counter
            }
            chain cut { type filter hook forward priority 1; }
        }";
        self.inside("inet", &["nft", "-f", "-"], rules)
    }

    /// UDP packets between the two sides, without those of the relay, that have reached the core so far.
    ///
    /// # Errors
    /// When `nft` does not say.
    pub fn packets(&self) -> Outcome<u64> {
        let listed =
            self.command("inet", &["nft", "list", "table", "inet", "count"]).output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().and_then(|count| count.parse().ok()).ok_or(format!("no counter in {text}"))
    }

    /// Has this program started once more in the core, as the emulator of the access links.
    fn emulate(&self, delay: Duration) -> Outcome<Child> {
        for side in Side::BOTH {
            // By iptables, since not every kernel has queues for rules of nft.
            for (chain, interface) in [("PREROUTING", "-i"), ("POSTROUTING", "-o")] {
                let rule = ["iptables-nft", "-t", "mangle", "-A", chain, interface, side.wire()];
                let queue = ["-j", "NFQUEUE", "--queue-num", "1", "--queue-bypass"];
                self.inside("inet", &[&rule[..], &queue[..]].concat(), "")?;
            }
        }
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let us = delay.as_micros().to_string();
        let mut child = self
            .command("inet", &[&program.to_string_lossy(), delay::ARGUMENT, &us])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the emulator: {e}"))?;
        let mut said = String::new();
        let stdout = child.stdout.take().ok_or("the emulator has no output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).map_err(|e| e.to_string())?;
        if said.trim() == delay::READY { Ok(child) } else { Err(format!("the emulator said {said:?}")) }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in Self::SPACES {
            let name = self.space(space);
            let pids = Command::new("ip").args(["netns", "pids", &name]).output().map(|o| o.stdout).unwrap_or_default();
            for pid in String::from_utf8_lossy(&pids).split_whitespace() {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        }
        if let Some(mut emulator) = self.emulator.take() {
            let _ = emulator.kill();
            let _ = emulator.wait();
        }
    }
}

fn run(command: &mut Command, input: &str) -> Outcome<()> {
    let words = format!("{:?} {:?}", command.get_program(), command.get_args().collect::<Vec<_>>());
    let failed = |why: &dyn std::fmt::Display| format!("{words}: {why}");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| failed(&e))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|e| failed(&e))?;
    }
    let output = child.wait_with_output().map_err(|e| failed(&e))?;
    output.status.success().then_some(()).ok_or_else(|| failed(&String::from_utf8_lossy(&output.stderr)))
}

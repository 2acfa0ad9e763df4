//! Owns the verbs about programs that know nothing of this node: forwards, exposes, and the peer behind a connection.

use crate::answer::{Exposed, Forward, Whois};
use crate::failure::Failure;
use crate::ipc::client::Client;
use crate::node::Node;
use crate::request::Request;

/// A forward, until it is dropped; see [`Node::forward`]. Connections that stand then go on.
pub struct Forwarding {
    /// What was set up, as it was at the beginning.
    pub forward: Forward,
    _owner: Client,
}

/// An exposed port, until it is dropped; see [`Node::expose`]. Connections that stand then go on.
pub struct Exposure {
    /// What was set up, as it was at the beginning.
    pub exposed: Exposed,
    _owner: Client,
}

/// How a program learns which peer has come; see [`Node::expose`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExposeOptions {
    http: bool,
    a2a: bool,
    proxy_protocol: bool,
    nodes: Vec<String>,
}

impl ExposeOptions {
    /// The program speaks HTTP/1 and is told the peer in headers.
    #[must_use]
    pub const fn http(mut self) -> Self {
        self.http = true;
        self
    }

    /// The program is an A2A agent: as [`http`](Self::http), and its card names the address that the caller used.
    #[must_use]
    pub const fn a2a(mut self) -> Self {
        (self.http, self.a2a) = (true, true);
        self
    }

    /// The program is told the peer by the PROXY protocol, version 2.
    #[must_use]
    pub const fn proxy_protocol(mut self) -> Self {
        self.proxy_protocol = true;
        self
    }

    /// Only these peers may come, besides what trust says.
    #[must_use]
    pub fn nodes(mut self, nodes: &[&str]) -> Self {
        self.nodes = nodes.iter().map(|&node| node.to_owned()).collect();
        self
    }
}

impl Node {
    /// Lets programs of this machine reach `port` of `node` by a listener: `[HOST:]PORT` or `unix:PATH`. With port 0, any
    /// free port is bound, which [`Forwarding::forward`] tells. What ends with the program is not kept on disk:
    /// [`Request::Forward`] keeps it.
    ///
    /// ```no_run
    /// # fn with(node: &pilot_node::Node) -> Result<(), pilot_node::Failure> {
    /// let database = node.forward("127.0.0.1:0", "worker-node", 5432)?;
    /// println!("psql -h 127.0.0.1 at {}", database.forward.listen);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument`; `Conflict` when the address is taken; `Full`; when the node has ended.
    pub fn forward(&self, listen: &str, node: &str, port: u16) -> Result<Forwarding, Failure> {
        let mut owner = self.client()?;
        let request = Request::Forward { node: node.into(), port, listen: listen.into(), temporary: Some(true) };
        Ok(Forwarding { forward: owner.request(&request, &[], None)?.read()?, _owner: owner })
    }

    /// Lets peers reach a program at `port` of this node. `target`: where the program listens, as `PORT` on this machine,
    /// `HOST:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// `InvalidArgument`; `Conflict` when the port is bound; `NotFound` for a node that is not trusted; `Full`; when the
    /// node has ended.
    pub fn expose(&self, port: u16, target: &str, options: ExposeOptions) -> Result<Exposure, Failure> {
        let ExposeOptions { http, a2a, proxy_protocol, nodes } = options;
        let [http, a2a, proxy_protocol] = [http, a2a, proxy_protocol].map(|flag| flag.then_some(true));
        let nodes = (!nodes.is_empty()).then_some(nodes);
        let (target, temporary) = (target.into(), Some(true));
        let mut owner = self.client()?;
        let request = Request::Expose { port, target, http, a2a, proxy_protocol, nodes, temporary };
        Ok(Exposure { exposed: owner.request(&request, &[], None)?.read()?, _owner: owner })
    }

    /// The peer behind a connection that a program behind an exposed port has accepted. `client`: the address of the
    /// connection's client as that program sees it.
    ///
    /// # Errors
    /// `NotFound`; when the node has ended.
    pub fn whois(&self, client: std::net::SocketAddr) -> Result<Whois, Failure> {
        self.ask(Request::Whois { local: client.to_string() })
    }
}

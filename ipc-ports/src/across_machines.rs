//! How to run ports on several machines. There is nothing in this module but this page.
//!
//! Ports do the same everywhere: what a send accepted arrives once and in order, over any number of broken connections.
//! What differs is where names lead, who may come in, and how long it takes until an outage is noticed.
//!
//! # Names
//!
//! A [`StaticNaming`](crate::StaticNaming) is a table from names to endpoints. Each process has one of its own. Its own
//! entry says where it listens, the others where to dial them:
//!
//! ```
//! use ipc_ports::{Node, NodeConfig, StaticNaming};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let naming = StaticNaming::new()
//!     .with("sensor", "tcp://192.0.2.1:7000".parse()?)
//!     .with("store", "tcp://store.example.org:7000".parse()?);
//! let sensor = Node::start(NodeConfig::new("sensor").naming(naming.clone())).await?;
//! let out = sensor.outgoing::<f64>("OUT")?;
//! out.connect("store", "IN")?;
//! // The store has moved: whoever waits to dial it again does so at once.
//! naming.set("store", "tcp://192.0.2.9:7000".parse()?);
//! # Ok(())
//! # }
//! ```
//!
//! Host names are looked up anew for each connection. A process behind a forwarded port or with several interfaces has
//! an own entry that others do not have, such as `tcp://0.0.0.0:7000`. An entry with port 0 is for tests: only the clones
//! of that table learn the real port.
//!
//! # Who may come in
//!
//! TCP knows no identities and hides nothing: whoever reaches the port may send, and whoever is on the way may read and
//! change. Use it where you trust the whole network. Elsewhere use TLS, the feature `tls` of `ipc-transport`, in which
//! both sides show certificates of an authority of your own. A place in the table is then `tls://host:port`, and the
//! certificate found there must be for that host:
//!
//! ```no_run
//! use ipc_ports::{Node, NodeConfig, StaticNaming};
//! use ipc_transport::{
//!     TlsTransport,
//!     tls::{ClientConfig, Identity, Roots, ServerConfig},
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let roots = Roots::from_pem_file("authority.pem")?;
//! let identity = Identity::from_pem_files("sensor.pem", "sensor.key")?;
//! let server = ServerConfig::builder(identity.clone()).verify_clients_against(roots.clone())?.build()?;
//! let client = ClientConfig::builder().verify_against(roots)?.identity(identity).build()?;
//! let naming = StaticNaming::new()
//!     .with("sensor", "tls://sensor.example.org:7000".parse()?)
//!     .with("store", "tls://store.example.org:7000".parse()?);
//! let config = NodeConfig::new("sensor").naming(naming);
//! let sensor = Node::start(config.transport(TlsTransport::new().server(server).client(client))).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Any certificate of the authority lets its holder in, under whatever process name it gives.
//! [`Access::Names`](crate::Access::Names) admits some of them alone, and a hook that sees both,
//! [`PortConfig::connection_request`](crate::PortConfig::connection_request), can hold the name against the certificate.
//!
//! # What an outage looks like
//!
//! | what happens | who notices | when |
//! |---|---|---|
//! | the process ends or is killed | both | at once: its kernel says so |
//! | a cable, a route or a machine is gone, values under way | the sender | `user_timeout`, 60 s (Linux) |
//! | the same, nothing under way, as mostly at the receiver | either | `keep_alive`, about 30 s |
//! | the receiving process stands still | the sender | with [`PortConfig::ping`](crate::PortConfig::ping), within two intervals |
//! | bytes stop in the middle of a value | the receiver | `frame_timeout`, 30 s |
//!
//! Until it is noticed nothing changes but that no values get through. The sender keeps what it accepted; when it has as
//! much as its capacity or its byte bound allows, sends wait, or do what the policy says. They do not fail. If the
//! network comes back before anybody has noticed, the connection goes on by itself. Kernels repeat at intervals that
//! double, so that may take as long again as the outage took.
//!
//! When it is noticed the sender's status is `Lost`, and it dials again: at once, then after random waits of 0.1 to 5 s
//! ([`BackoffConfig::remote`](crate::BackoffConfig::remote)), for as long as it takes. The new connection takes the place of the old one,
//! which the receiver may not have given up yet, and goes on after the last value that arrived. What the old one still
//! brings afterwards changes nothing.
//!
//! If it was the receiving process that died, its successor under the same name gets whatever was not released, flagged
//! `redelivered` if the one before may have seen it. What a sending process had accepted and not delivered dies with it:
//! ports keep values in memory, on the sending side.
//!
//! # Settings that matter
//!
//! | setting | default | why another |
//! |---|---|---|
//! | [`PortConfig::capacity`](crate::PortConfig::capacity) | 20 values | an outage is bridged without waiting by values per second × its seconds |
//! | [`PortConfig::byte_bound`](crate::PortConfig::byte_bound) | 8 MiB | the same in bytes |
//! | [`PortConfig::ping`](crate::PortConfig::ping) | off | processes that hang; costs a round trip per interval |
//! | [`TcpTransport::user_timeout`](crate::TcpTransport::user_timeout) | 60 s | shorter: outages end sooner for senders; longer: readers that pause |
//! | [`TcpTransport::keep_alive`](crate::TcpTransport::keep_alive) | 15 s + 3 × 5 s | firewalls that forget idle connections sooner; metered networks |
//! | [`NodeConfig::connect_timeout`](crate::NodeConfig::connect_timeout) | 10 s | slow look-ups and long ways |
//! | [`NodeConfig::backoff`](crate::NodeConfig::backoff) | 0.1 to 5 s | few processes that are to be back at once |
//! | [`PortConfig::source_ttl`](crate::PortConfig::source_ttl) | none | a machine that never comes back holds the end of the stream |
//!
//! ```
//! use std::time::Duration;
//! use ipc_ports::{KeepAlive, NodeConfig, PortConfig, TcpTransport};
//!
//! // Notices a dead machine within about five seconds, and keeps a minute of values at ten per second.
//! let second = Duration::from_secs(1);
//! let probes = KeepAlive::default().with_idle(2 * second).with_interval(second).with_probes(3);
//! let tcp = TcpTransport::new().keep_alive(Some(probes)).user_timeout(Some(5 * second));
//! let node = NodeConfig::new("sensor").transport(tcp);
//! let port = PortConfig::new().capacity(600).ping(2 * second);
//! # let _ = (node, port);
//! ```
//!
//! A `TlsTransport` takes the same `TcpTransport` through its method `tcp`. Times that are too short do no harm to values: a
//! connection that was only slow is made anew.

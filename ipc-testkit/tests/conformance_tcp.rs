//! TCP keeps the contract, over both versions of IP.

use ipc_testkit::{conformance::transport::Subject, transport_conformance};
use ipc_transport::TcpTransport;

fn subject(at: &str) -> Subject {
    Subject::new(TcpTransport::new(), at.parse().expect("it is an endpoint"))
}

transport_conformance!(ip_version_4, || subject("tcp://127.0.0.1:0"));
transport_conformance!(ip_version_6, || subject("tcp://[::1]:0"));

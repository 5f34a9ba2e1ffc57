//! The namings keep the contract: the runtime directory, and a table with fixed and with fresh places.

use ipc_testkit::{MemTransport, conformance::naming::Subject, naming_conformance, process::TempDir};
use ipc_transport::{RuntimeDirectory, RuntimeNaming, StaticNaming, TcpTransport, Transports, UnixTransport};

naming_conformance!(runtime_directory, || {
    let directory = TempDir::new().expect("there is room for a directory");
    let naming = RuntimeNaming::new(RuntimeDirectory::at(directory.path()).expect("it is private"));
    Subject::new(naming, Transports::none().with(UnixTransport::new()), "a").keeping(directory)
});

fn table(at: &str) -> Subject {
    let naming = StaticNaming::new().with("a", at.parse().expect("it is an endpoint"));
    Subject::new(naming, Transports::none().with(MemTransport::new()).with(TcpTransport::new()), "a")
}

naming_conformance!(table_with_a_fixed_place, || table("mem:a").without_watch());
naming_conformance!(table_with_a_fresh_port, || table("tcp://127.0.0.1:0"));

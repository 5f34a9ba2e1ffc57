//! Unix sockets keep the contract, by path and by abstract name.

use ipc_testkit::{Faulty, conformance::transport::Subject, process::TempDir, transport_conformance};
use ipc_transport::{Endpoint, UnixTransport};

fn by_path() -> Subject {
    let directory = TempDir::new().expect("there is room for a directory");
    let at = Endpoint::unix(directory.join("a.sock")).expect("temporary paths are short");
    Subject::new(UnixTransport::new(), at).keeping(directory)
}

transport_conformance!(path, by_path);
transport_conformance!(wrapped, || by_path().with_dialler(Faulty::pass_through(UnixTransport::new())));
#[cfg(target_os = "linux")]
transport_conformance!(abstract_name, || {
    let name = format!("ipc-testkit-{:016x}", fastrand::u64(..));
    Subject::new(UnixTransport::new(), Endpoint::unix_abstract(name).expect("the name is short"))
});

//! The macros of the suites need no crate of their user: here every name that they might mean is somebody else's.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use ipc_testkit::{
    MemTransport, codec_conformance, conformance, datagram_conformance, naming_conformance,
    proptest as property_tests, transport_conformance,
};
use ipc_transport::{Bincode, StaticNaming, Transports};

/// Names that a macro would meet if it did not begin its paths with `$crate`.
mod futures_util {}
mod proptest {}
mod tokio {}

transport_conformance!(connections, || {
    conformance::transport::Subject::new(MemTransport::new(), "mem:a".parse().unwrap())
});

datagram_conformance!(datagrams, || {
    conformance::datagram::Subject::new(MemTransport::new(), "mem:0".parse().unwrap())
});

naming_conformance!(names, || {
    let table = StaticNaming::new().with("a", "mem:a".parse().unwrap());
    let transports = Transports::none().with(MemTransport::new());
    conformance::naming::Subject::new(table, transports, "a").without_watch()
});

codec_conformance!(numbers, || conformance::codec::Subject::new(Bincode::default(), [1_u32, 2]));

property_tests::proptest! {
    #[test]
    fn the_property_tests_that_are_re_exported_work_by_that_name(number in 0..10_u8) {
        property_tests::prop_assert!(number < 10);
    }
}

//! The hall keeps the contract of transports.

use ipc_testkit::conformance::transport::Subject;
use outside_transport::Hall;

ipc_testkit::transport_conformance!(hall, || Subject::new(Hall::new(), "hall:kitchen".parse().unwrap()));

//! Names of events that are not for events: those that hurt a Node peer, and those that node-ipc raises by itself.

use super::WireError;

/// Refuses a name that JavaScript finds on every object.
///
/// Node-ipc 9.2.1 looks its handlers up in a plain object. For these names it finds something that is no list of
/// handlers, and the exception ends the process.
pub(super) fn check_prototype(name: &str) -> Result<(), WireError> {
    refuse(PROTOTYPE, name)
}

/// Refuses a name under which node-ipc reports the life of its connections, so that a peer could forge such a report.
pub(super) fn check_lifecycle(name: &str) -> Result<(), WireError> {
    refuse(LIFECYCLE, name)
}

/// Refuses a name by which peers ask for each other's events.
pub(super) fn check_introspection(name: &str) -> Result<(), WireError> {
    refuse(INTROSPECTION, name)
}

fn refuse(names: &[&'static str], name: &str) -> Result<(), WireError> {
    match names.iter().find(|reserved| **reserved == name) {
        Some(name) => Err(WireError::Reserved { name }),
        None => Ok(()),
    }
}

/// Whatever `Object.prototype` has, and `prototype` itself.
const PROTOTYPE: &[&str] = &[
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "prototype",
    "toLocaleString",
    "toString",
    "valueOf",
];

/// What servers and clients of node-ipc raise by themselves, and the name of the handler of all events.
const LIFECYCLE: &[&str] =
    &["*", "close", "connect", "data", "destroy", "disconnect", "error", "socket.disconnected", "start"];

const INTROSPECTION: &[&str] =
    &["events.broadcasting", "events.listening", "get.events.broadcasting", "get.events.listening"];

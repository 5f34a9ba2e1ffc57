//! Names of events that are not for events: those that hurt a Node peer, and those that node-ipc raises by itself.

use super::{Introspection, WireError};

/// Refuses a name that JavaScript finds on every object.
///
/// Node-ipc 9.2.1 looks its handlers up in a plain object. For these names it finds something that is no list of
/// handlers: with one of the two halves of its event library, which the version of Node decides, the exception ends the
/// process; with the other nothing happens, and no handler can be added.
pub(super) fn check_prototype(name: &str) -> Result<(), WireError> {
    refuse(PROTOTYPE, name)
}

/// Refuses a name under which node-ipc reports the life of its connections, as a peer could forge such a report with it.
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

/// Whatever `Object.prototype` has.
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
    "toLocaleString",
    "toString",
    "valueOf",
];

/// What servers and clients of node-ipc raise by themselves, the name of the handler of all events, and the one further
/// name that JavaScript finds on every function.
const LIFECYCLE: &[&str] = &[
    "*",
    "close",
    "connect",
    "data",
    "destroy",
    "disconnect",
    "error",
    "prototype",
    "socket.disconnected",
    "start",
];

const INTROSPECTION: &[&str] = &[
    Introspection::Broadcasting.name(),
    Introspection::GetBroadcasting.name(),
    Introspection::GetListening.name(),
    Introspection::Listening.name(),
];

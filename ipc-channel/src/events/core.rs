//! What all connections of one server or client share: handlers, limits, counts, and for a server who is here.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use ipc_transport::check_name as check_client_name;
use serde::{Deserialize, Serialize};

use super::{
    CallError, EmitError, Reply,
    config::{NodeIpc, OnPanic, Tuning, Wire},
    error::check_name,
    frame::Frame,
    hooks::Hooks,
    message::Message,
    node_ipc::{self, Introspection},
    peer::{Counters, Peer},
    plain::Cutting,
};
use crate::handlers::{Handlers, RespondError};

/// Room of a frame of JSON at first.
const FIRST_ROOM: usize = 128;

/// Room that an answer leaves for what stands before it.
const ANSWER_HEAD: usize = 16;

/// Names of clients that are remembered as they tell events by way of the server.
const MAX_TELLERS: usize = 1024;

pub(super) struct Core {
    pub(super) handlers: Arc<Handlers<Reply>>,
    /// Of the raw wire: who gets the bytes.
    pub(super) bytes: Arc<Hooks<(Bytes, Reply)>>,
    /// The server's id.
    pub(super) id: Arc<str>,
    /// A client has asked what the server tells and listens to: the answer is not a greeting.
    asks_for_events: AtomicBool,
    format: Format,
    pub(super) tuning: Tuning,
    pub(super) counters: Counters,
    /// Of a server.
    roster: OnceLock<Roster>,
    /// The names that events came from, so that one is allocated once.
    tellers: Mutex<HashMap<Box<str>, Arc<str>>>,
}

/// How events become bytes.
enum Format {
    Native,
    NodeIpc(Box<(node_ipc::Writer, NodeIpc)>),
    Raw,
}

/// Who and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Directory {
    /// The names of the clients that are connected, or their ids where they have none; sorted.
    pub clients: Vec<String>,
    /// The events that the server has handlers for, sorted.
    pub events: Vec<String>,
    /// The requests that the server answers, sorted.
    pub requests: Vec<String>,
}

impl Core {
    pub(super) fn new(id: &str, tuning: Tuning) -> Arc<Self> {
        let format = match &tuning.wire {
            Wire::Native => Format::Native,
            Wire::NodeIpc(wire) => {
                let max = tuning.limits.max_message;
                let writer = node_ipc::Writer::new(&wire.delimiter, wire.profile.clone(), max);
                Format::NodeIpc(Box::new((writer, wire.clone())))
            }
            Wire::Raw => Format::Raw,
        };
        Arc::new(Self {
            handlers: Handlers::new(),
            bytes: Hooks::new(),
            id: Arc::from(id),
            asks_for_events: AtomicBool::new(false),
            format,
            tuning,
            counters: Counters::default(),
            roster: OnceLock::new(),
            tellers: Mutex::default(),
        })
    }

    /// One event, as it travels; without a value there is no data in it, or nothing but the unit.
    pub(super) fn encode_event<T>(&self, name: &str, value: Option<&T>) -> Result<Frame, EmitError>
    where
        T: Serialize + ?Sized,
    {
        match &self.format {
            Format::Native => {
                check_name(name)?;
                let head = Message::Event { name, from: "", payload: &[] };
                let max = self.tuning.limits.max_message;
                let codec = self.tuning.codec;
                Ok(Frame::build(max, |out| {
                    head.encode_head(out)?;
                    match value {
                        Some(value) => codec.encode(value, out),
                        None => codec.encode(&(), out),
                    }
                })?)
            }
            Format::NodeIpc(wire) => {
                if matches!(
                    Introspection::of(name),
                    Some(Introspection::GetBroadcasting | Introspection::GetListening)
                ) {
                    // What comes back is an answer, and not the greeting of an old server.
                    self.asks_for_events.store(true, Ordering::Relaxed);
                }
                let mut bytes = Vec::with_capacity(FIRST_ROOM);
                wire.0.encode(name, value, &mut bytes)?;
                Ok(Frame::of(bytes))
            }
            Format::Raw => Err(EmitError::Unsupported { what: "events: it carries bytes" }),
        }
    }

    /// Bytes, as they travel on the raw wire.
    pub(super) fn encode_bytes(&self, bytes: Bytes) -> Result<Frame, EmitError> {
        match &self.format {
            Format::Raw => Ok(Frame::Shared(bytes)),
            _ => Err(EmitError::Unsupported { what: "bare bytes: it carries events" }),
        }
    }

    /// How what arrives is cut, where the wire has no links.
    pub(super) fn cutting(&self) -> Option<Cutting> {
        match &self.format {
            Format::Native => None,
            Format::NodeIpc(wire) => Some(Cutting::Frames(wire.1.delimiter.clone(), wire.1.profile.clone())),
            Format::Raw => Some(Cutting::Raw),
        }
    }

    pub(super) fn hangs_up_on_panic(&self) -> bool {
        self.tuning.on_panic == OnPanic::HangUp
    }

    /// Bytes that may wait for a peer before it is given up.
    pub(super) fn max_pending(&self) -> Option<usize> {
        self.node_ipc().and_then(|wire| wire.profile.guard()).map(|guard| guard.max_pending)
    }

    /// What a server of node-ipc 0.9 says before anything else.
    pub(super) fn greeting(&self) -> Option<Frame> {
        let Format::NodeIpc(wire) = &self.format else { return None };
        let catalogue = wire.1.catalogue.as_ref().filter(|_| wire.1.greets)?;
        let mut bytes = Vec::new();
        catalogue.greet(&self.id, &wire.0, &mut bytes).ok()?;
        Some(Frame::Shared(Bytes::from(bytes)))
    }

    pub(super) fn asks_for_events(&self) -> bool {
        self.asks_for_events.load(Ordering::Relaxed)
    }

    pub(super) fn node_ipc(&self) -> Option<&NodeIpc> {
        match &self.format {
            Format::NodeIpc(wire) => Some(&wire.1),
            _ => None,
        }
    }

    pub(super) fn node_ipc_writer(&self) -> Option<&node_ipc::Writer> {
        match &self.format {
            Format::NodeIpc(wire) => Some(&wire.0),
            _ => None,
        }
    }

    /// Makes it a server's.
    pub(super) fn serve(&self, max_clients: usize) {
        let _ = self.roster.set(Roster::new(max_clients));
    }

    pub(super) fn roster(&self) -> Option<&Roster> {
        self.roster.get()
    }

    /// The client of this id or name.
    pub(super) fn find(&self, client: &str) -> Result<Arc<Peer>, CallError> {
        self.roster()
            .and_then(|roster| roster.find(client))
            .ok_or_else(|| CallError::UnknownClient { client: client.to_owned() })
    }

    /// The name of whoever told an event by way of our server. Only a server can say it: what a client claims is not
    /// believed.
    pub(super) fn told_by(&self, from: &str) -> Option<Arc<str>> {
        if self.roster().is_some() {
            return None;
        }
        let mut tellers = self.tellers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tellers.get(from) {
            return Some(known.clone());
        }
        if tellers.len() >= MAX_TELLERS {
            tellers.clear();
        }
        let name: Arc<str> = Arc::from(from);
        tellers.insert(from.into(), name.clone());
        Some(name)
    }

    pub(super) fn directory(&self) -> Directory {
        let names = self.handlers.names();
        let texts = |names: Vec<Arc<str>>| names.iter().map(|name| name.as_ref().to_owned()).collect();
        let mut clients = self.roster().map(Roster::labels).unwrap_or_default();
        clients.sort_unstable();
        Directory { clients, events: texts(names.events), requests: texts(names.requests) }
    }

    /// The largest answer.
    pub(super) fn max_answer(&self) -> usize {
        self.tuning.limits.max_message.saturating_sub(ANSWER_HEAD)
    }
}

impl From<RespondError> for CallError {
    fn from(error: RespondError) -> Self {
        match error {
            RespondError::Failed { message } => Self::Failed { message },
            RespondError::Panicked => Self::Panicked,
            error => Self::Rejected { what: error.to_string() },
        }
    }
}

/// Whether a client may be called so: a name that can be shown, and not the id of another one.
pub(super) fn is_name(name: &str) -> bool {
    check_client_name(name).is_ok() && !is_id(name)
}

/// Whether it is 32 hexadecimal digits.
pub(super) fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The clients of a server, by id and by name.
pub(super) struct Roster {
    state: Mutex<Here>,
    max_clients: usize,
}

#[derive(Default)]
struct Here {
    by_session: HashMap<u128, Arc<Peer>>,
    by_label: HashMap<Arc<str>, Weak<Peer>>,
    /// Made anew when somebody comes or goes, so that a broadcast copies a pointer.
    everybody: Arc<Vec<Arc<Peer>>>,
    /// Nobody new comes in.
    closed: bool,
}

/// Why somebody cannot come in.
pub(super) enum Unwelcome {
    /// There are as many clients as may be.
    Full,
    /// Somebody who is connected has the name or the id.
    Taken(String),
}

impl Roster {
    fn new(max_clients: usize) -> Self {
        Self { state: Mutex::default(), max_clients }
    }

    fn lock(&self) -> MutexGuard<'_, Here> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, label: &str) -> Option<Arc<Peer>> {
        self.lock().by_label.get(label).and_then(Weak::upgrade)
    }

    pub(super) fn everybody(&self) -> Arc<Vec<Arc<Peer>>> {
        self.lock().everybody.clone()
    }

    /// The client of this session, whether it is connected or not.
    pub(super) fn known(&self, session: u128) -> Option<Arc<Peer>> {
        self.lock().by_session.get(&session).cloned()
    }

    fn labels(&self) -> Vec<String> {
        let everybody = self.everybody();
        let here = everybody.iter().filter(|peer| peer.is_connected());
        here.map(|peer| peer.label().as_ref().to_owned()).collect()
    }

    /// Lets a new client in; those that were cut off and whose labels it takes come back, to be retired.
    pub(super) fn enter(
        &self,
        session: u128,
        labels: &[&str],
        make: impl FnOnce() -> Result<Arc<Peer>, ipc_transport::Error>,
    ) -> Result<(Arc<Peer>, Vec<Arc<Peer>>), Unwelcome> {
        let mut here = self.lock();
        if here.closed {
            return Err(Unwelcome::Full);
        }
        if here.by_session.contains_key(&session) {
            // Another connection of the same session was faster; it will be known next time.
            return Err(Unwelcome::Full);
        }
        let mut replaced: Vec<Arc<Peer>> = Vec::new();
        for label in labels {
            match here.by_label.get(*label).and_then(Weak::upgrade) {
                // One that said goodbye needs its name no more.
                Some(holder) if holder.is_connected() && !holder.has_left() => {
                    return Err(Unwelcome::Taken((*label).to_owned()));
                }
                Some(holder) if !replaced.iter().any(|known| Arc::ptr_eq(known, &holder)) => {
                    replaced.push(holder);
                }
                _ => {}
            }
        }
        if here.by_session.len() >= self.max_clients + replaced.len() {
            return Err(Unwelcome::Full);
        }
        let Ok(peer) = make() else { return Err(Unwelcome::Full) };
        for gone in &replaced {
            here.forget(gone);
        }
        here.by_session.insert(session, peer.clone());
        here.by_label.insert(peer.id.clone(), Arc::downgrade(&peer));
        if let Some(name) = peer.name() {
            here.by_label.insert(name.clone(), Arc::downgrade(&peer));
        }
        here.list_anew();
        Ok((peer, replaced))
    }

    /// Gives a client that has none this name, unless somebody has it already.
    pub(super) fn give_name(&self, peer: &Arc<Peer>, name: &str) {
        let mut here = self.lock();
        // One that has left is in nobody's list any more, and what it still says changes nothing.
        let is_here = here.by_label.contains_key(&peer.id);
        if is_here && is_name(name) && here.by_label.get(name).is_none_or(|holder| holder.strong_count() == 0)
        {
            let name: Arc<str> = Arc::from(name);
            if peer.set_name(name.clone()) {
                here.by_label.insert(name, Arc::downgrade(peer));
            }
        }
    }

    /// Somebody goes for good, if nothing has come after the connection of this epoch; `false` if something has, and
    /// when it was gone already.
    pub(super) fn leave(&self, peer: &Arc<Peer>, epoch: u64) -> bool {
        let mut here = self.lock();
        let was_here = peer.is_gone_since(epoch) && here.forget(peer);
        here.list_anew();
        was_here
    }

    /// Lets nobody new in from now on, only those back who were cut off; who they are.
    pub(super) fn close(&self) -> Arc<Vec<Arc<Peer>>> {
        let mut here = self.lock();
        here.closed = true;
        here.everybody.clone()
    }

    /// Everybody goes, and nobody comes.
    pub(super) fn clear(&self) -> Vec<Arc<Peer>> {
        let mut here = self.lock();
        here.closed = true;
        here.by_label.clear();
        let everybody = here.by_session.drain().map(|(_, peer)| peer).collect();
        here.list_anew();
        everybody
    }

    /// Tells everybody but one without waiting for anybody; how many have it now.
    pub(super) fn broadcast(
        &self,
        core: &Core,
        message: &Message<'_>,
        except: Option<&Arc<Peer>>,
    ) -> Result<usize, EmitError> {
        let frame = Frame::build(core.tuning.limits.max_message, |out| message.encode(out))?;
        Ok(self.spread(&frame, except).0)
    }

    /// As [`broadcast`](Self::broadcast), of a message that is encoded; and those who have no room now.
    pub(super) fn spread(&self, frame: &Frame, except: Option<&Arc<Peer>>) -> (usize, Vec<Arc<Peer>>) {
        let mut told = 0;
        let mut full = Vec::new();
        for peer in self.everybody().iter() {
            if except.is_some_and(|except| Arc::ptr_eq(except, peer)) {
                continue;
            }
            match peer.wire.try_broadcast(frame.clone()) {
                Ok(()) => told += 1,
                Err(EmitError::Full) => full.push(peer.clone()),
                Err(_) => {}
            }
        }
        (told, full)
    }
}

impl Here {
    fn forget(&mut self, peer: &Arc<Peer>) -> bool {
        let before = self.by_session.len();
        self.by_session.retain(|_, known| !Arc::ptr_eq(known, peer));
        // A label may be somebody else's by now.
        self.by_label.retain(|_, known| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(peer)));
        self.by_session.len() < before
    }

    fn list_anew(&mut self) {
        self.everybody = Arc::new(self.by_session.values().cloned().collect());
    }
}

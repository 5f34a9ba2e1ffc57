//! Answering requests: one handler for each name, which returns the answer or an error.

use std::{
    fmt::{self, Display, Write},
    future::poll_fn,
    marker::PhantomData,
    pin::{Pin, pin},
    sync::Arc,
};

use ipc_transport::{DecodeError, EncodeBuffer, EncodeError};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Context,
    caught::{Panicked, caught, poll_caught},
    counters::Counts,
};
use crate::{Event, PayloadCodec, event::Meta, subscription::State};

/// The most bytes of an error's text that are sent to who asked: 512.
pub(crate) const MAX_MESSAGE: usize = 512;

/// The requests of this name have a handler already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("requests named {name:?} have a handler already")]
pub struct DuplicateResponder {
    /// The name.
    pub name: String,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RespondError {
    /// The handler returned an error.
    #[error("the handler failed: {message}")]
    Failed {
        /// Its text, at most [`MAX_MESSAGE`] bytes of it.
        message: String,
    },
    /// The handler panicked, or decoding for it or encoding after it did.
    #[error("the handler panicked")]
    Panicked,
    /// The answer is larger than an answer may be.
    #[error("answer of {len} bytes or more exceeds the limit of {max}")]
    TooLarge {
        /// Bytes when it was noticed.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The request's value is not of the handler's type.
    #[error("the request does not decode")]
    Undecodable(#[source] DecodeError),
    /// The answer could not be encoded.
    #[error("the answer could not be encoded")]
    Unencodable(#[source] EncodeError),
}

/// An answer being made. It may be spawned as a task of its own; dropping it drops the handler's future.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Vec<u8>, RespondError>> + Send>>;

/// The handler of one name's requests, as it was when it was asked for.
pub(crate) struct Responder<C> {
    state: Arc<State>,
    handler: Arc<dyn Respond<C>>,
}

impl<C> Responder<C> {
    pub(super) fn new(state: Arc<State>, handler: Arc<dyn Respond<C>>) -> Self {
        Self { state, handler }
    }

    pub(super) fn id(&self) -> u64 {
        self.state.id
    }

    /// Answers one request with at most `max_answer` bytes.
    ///
    /// The value is decoded here and now, so that the bytes need not be kept; the handler is called by the first poll.
    /// No panic of the handler's leaves the future.
    pub(crate) fn call(
        &self,
        codec: PayloadCodec,
        payload: &[u8],
        meta: Meta,
        context: C,
        max_answer: usize,
    ) -> Answering {
        Arc::clone(&self.handler).call(Request { codec, payload, meta, max_answer }, context)
    }
}

impl<C> Clone for Responder<C> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), handler: Arc::clone(&self.handler) }
    }
}

/// A request on its way to its handler.
pub(super) struct Request<'a> {
    codec: PayloadCodec,
    payload: &'a [u8],
    meta: Meta,
    max_answer: usize,
}

pub(super) trait Respond<C>: Send + Sync {
    fn call(self: Arc<Self>, request: Request<'_>, context: C) -> Answering;
}

/// A handler of requests with its types.
pub(super) struct Responding<T, R, E, F> {
    name: Arc<str>,
    handler: F,
    counts: Arc<Counts>,
    types: PhantomData<fn(T) -> Result<R, E>>,
}

impl<T, R, E, F> Responding<T, R, E, F> {
    pub(super) fn new(name: Arc<str>, handler: F, counts: Arc<Counts>) -> Self {
        Self { name, handler, counts, types: PhantomData }
    }
}

impl<T, R, E, F, C, Fut> Respond<C> for Responding<T, R, E, F>
where
    T: DeserializeOwned + Send + 'static,
    R: Serialize + 'static,
    E: Display + 'static,
    C: Context,
    F: Fn(Event<T>, C) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    fn call(self: Arc<Self>, request: Request<'_>, context: C) -> Answering {
        let Request { codec, payload, meta, max_answer } = request;
        self.counts.requests.add_one();
        let value = match caught(|| codec.decode::<T>(payload)) {
            Ok(value) => value.map_err(RespondError::Undecodable),
            Err(Panicked) => Err(RespondError::Panicked),
        };
        Box::pin(async move {
            let answer = match value {
                Ok(value) => {
                    let event = Event::new(value, Arc::clone(&self.name), meta);
                    answer(|| (self.handler)(event, context), codec, max_answer).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &answer {
                match error {
                    RespondError::Panicked => self.counts.panicked.add_one(),
                    RespondError::Undecodable(_) => self.counts.undecodable.add_one(),
                    _ => self.counts.failed.add_one(),
                }
            }
            answer
        })
    }
}

/// Makes the handler's future, brings it to its end, and encodes what it returned.
async fn answer<R, E, Fut>(
    begin: impl FnOnce() -> Fut,
    codec: PayloadCodec,
    max: usize,
) -> Result<Vec<u8>, RespondError>
where
    R: Serialize,
    E: Display,
    Fut: Future<Output = Result<R, E>>,
{
    let mut place = pin!(Some(caught(begin)?));
    let returned = poll_fn(|context| poll_caught(place.as_mut(), context)).await?;
    caught(move || match returned {
        Ok(value) => encode(&value, codec, max),
        Err(error) => Err(RespondError::Failed { message: text_of(&error) }),
    })?
}

fn encode<R: Serialize>(value: &R, codec: PayloadCodec, max: usize) -> Result<Vec<u8>, RespondError> {
    let mut bytes = Vec::new();
    let mut out = EncodeBuffer::growing(&mut bytes, max);
    match codec.encode(value, &mut out) {
        Ok(()) => {}
        Err(EncodeError::TooLarge { len, max }) => return Err(RespondError::TooLarge { len, max }),
        Err(error) => return Err(RespondError::Unencodable(error)),
    }
    match out.take_attached() {
        Some(attached) if attached.len() > max => Err(RespondError::TooLarge { len: attached.len(), max }),
        Some(attached) => Ok(attached.into()),
        None => Ok(bytes),
    }
}

/// An error's text, cut where it may be cut.
fn text_of(error: &impl Display) -> String {
    let mut text = Cut::default();
    // What was written before an error of its `Display` stays.
    let _ = write!(text, "{error}");
    text.kept
}

/// Takes the first bytes of a text and lets the others go, however many there are.
#[derive(Default)]
struct Cut {
    kept: String,
    full: bool,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.full {
            let mut end = text.len().min(MAX_MESSAGE - self.kept.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            self.kept.push_str(&text[..end]);
            self.full = end < text.len();
        }
        Ok(())
    }
}

impl From<Panicked> for RespondError {
    fn from(_: Panicked) -> Self {
        Self::Panicked
    }
}

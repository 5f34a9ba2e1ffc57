//! One event, as a handler or a stream gets it.

use std::{fmt, ops::Deref, sync::Arc};

/// The value of an event, its name, and what is known of its way.
///
/// It derefs to the value. `Debug` hides the value: payloads are not for logs.
#[derive(Clone)]
pub struct Event<T> {
    value: T,
    name: Arc<str>,
    meta: Meta,
}

impl<T> Event<T> {
    pub(crate) fn new(value: T, name: Arc<str>, meta: Meta) -> Self {
        Self { value, name, meta }
    }

    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Takes the value out.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The name of the event. Any text is a name, the empty one too; none has a meaning of its own.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client that sent it through the server; `None` when the other end of the connection did.
    pub fn from(&self) -> Option<&str> {
        self.meta.from.as_deref()
    }

    /// Whether it may have been seen before: a process that died had taken it and not released it.
    pub fn redelivered(&self) -> bool {
        self.meta.redelivered
    }
}

impl<T> Deref for Event<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name)
            .field("from", &self.meta.from)
            .field("redelivered", &self.meta.redelivered)
            .finish_non_exhaustive()
    }
}

/// What is known of an event's way, beside its name and its value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meta {
    /// The client that sent it through the server.
    pub(crate) from: Option<Arc<str>>,
    /// Whether it may have been seen before.
    pub(crate) redelivered: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_an_event_hides_the_value() {
        let meta = Meta { from: Some(Arc::from("sam")), redelivered: true };
        let event = Event::new("secret".to_owned(), Arc::from("login"), meta);
        let text = format!("{event:?}");
        assert!(text.contains("login") && text.contains("sam") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn an_event_derefs_to_its_value_and_tells_its_way() {
        let event = Event::new(vec![1, 2, 3], Arc::from("numbers"), Meta::default());
        assert_eq!((event.len(), event.value().as_slice()), (3, &[1, 2, 3][..]));
        assert_eq!((event.name(), event.from(), event.redelivered()), ("numbers", None, false));
        assert_eq!(event.into_value(), [1, 2, 3]);
    }
}

//! Two desks and one tray: clerks put letters into a bounded tray, and who empties it never waits.

use std::num::NonZeroUsize;

use ipc_pipeline::{CapacityError, FullPolicy, QueueConfig, Receiver, Sender, TrySendError};

/// A tray for so many letters, and what lays them in; a full one gives the letter back.
#[derive(Debug)]
pub struct Tray {
    letters: Receiver<Vec<u8>>,
}

/// A clerk's way to the tray.
#[derive(Debug, Clone)]
pub struct Desk {
    tray: Sender<Vec<u8>>,
}

/// An empty tray and the first desk.
///
/// # Errors
///
/// Those of the queue, for a capacity beyond what it can have.
pub fn office(capacity: NonZeroUsize) -> Result<(Desk, Tray), CapacityError> {
    let (tray, letters) = QueueConfig::new(capacity.get())?.policy(FullPolicy::Wait).build();
    Ok((Desk { tray }, Tray { letters }))
}

impl Desk {
    /// Lays a letter in the tray.
    ///
    /// # Errors
    ///
    /// The letter, when the tray is full or was closed.
    pub fn lay(&self, letter: Vec<u8>) -> Result<(), Vec<u8>> {
        self.tray.try_send(letter).map_err(TrySendError::into_value)
    }
}

impl Tray {
    /// Takes the oldest letter.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.letters.try_recv().ok()
    }

    /// Takes no more letters in; those that are there stay.
    pub fn close(&mut self) {
        self.letters.close();
    }
}

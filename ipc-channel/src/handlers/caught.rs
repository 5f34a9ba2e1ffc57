//! Panics of foreign code, caught at its border.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// Foreign code panicked. The panic hook has said where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs foreign code. What it may have left half done is its own: the caller drops it and looks at it no more.
pub(super) fn caught<R>(run: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|thrown| {
        // What was thrown may panic as it is dropped; what that throws is left alone.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
            mem::forget(again);
        }
        Panicked
    })
}

/// Polls a foreign future in its place, which is empty afterwards unless the future is pending.
pub(super) fn poll_caught<F: Future>(
    mut place: Pin<&mut Option<F>>,
    context: &mut Context<'_>,
) -> Poll<Result<F::Output, Panicked>> {
    let Some(future) = place.as_mut().as_pin_mut() else {
        // Nobody polls an empty place; nothing would ever come out of it.
        return Poll::Ready(Err(Panicked));
    };
    let output = match caught(|| future.poll(context)) {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(output)) => Ok(output),
        Err(panicked) => Err(panicked),
    };
    let cleared = clear(place);
    Poll::Ready(output.and_then(|output| cleared.map(|()| output)))
}

/// Drops the future in a place, if there is one.
pub(super) fn clear<F>(mut place: Pin<&mut Option<F>>) -> Result<(), Panicked> {
    // An assignment puts the new value into its place even if dropping the old one panics.
    if place.is_some() { caught(|| place.set(None)) } else { Ok(()) }
}

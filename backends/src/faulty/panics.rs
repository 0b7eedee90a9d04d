//! Panics of the code that is judged: caught, and told in a story in the place of standard error.
//!
//! Runs are repeated many times until a story is short. A panic that each of them told would bury it.

use core::{any::Any, cell::RefCell, panic::AssertUnwindSafe};
use std::{
    panic::{catch_unwind, set_hook, take_hook},
    sync::Once,
    thread,
};

/// A panic that was caught.
pub(super) struct Panic {
    pub(super) message: String,
    /// The file, the line and the column, where the hook was not replaced since.
    pub(super) place: Option<String>,
}

/// What becomes of the panics of a thread.
enum Panics {
    /// They are told as always.
    Told,
    /// This thread runs code that is judged: where that has panicked, if it has.
    Kept(Option<String>),
}

thread_local! {
    static PANICS: RefCell<Panics> = const { RefCell::new(Panics::Told) };
}

/// Runs code that may panic, and says nothing on standard error if it does.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    keep_places();
    let outer = PANICS.replace(Panics::Kept(None));
    let ended = catch_unwind(AssertUnwindSafe(run));
    let panics = PANICS.replace(outer);
    ended.map_err(|payload| Panic {
        message: text(payload.as_ref()),
        place: match panics {
            Panics::Kept(place) => place,
            Panics::Told => None,
        },
    })
}

/// Puts a hook before the one that is there: it keeps the place of a panic of code that is judged, and passes on all else.
///
/// It stays: to put back the old one would be to take away one that another thread has set meanwhile.
fn keep_places() {
    static ONCE: Once = Once::new();
    // Where a panic ends the process, it has to be told. A thread that panics may set no hook.
    if cfg!(panic = "abort") || thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let told = take_hook();
        set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let is_first = PANICS.try_with(|panics| match &mut *panics.borrow_mut() {
                Panics::Kept(kept) => kept.replace(place).is_none(),
                Panics::Told => false,
            });
            // A second one, in a destructor, ends the process.
            if !is_first.unwrap_or(false) {
                told(info);
            }
        }));
    });
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "something that is no text".to_owned())
}

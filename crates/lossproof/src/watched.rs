//! A test that can be given up: it runs on a thread of its own, and the watchdog of its subject says when to
//! go on without it.

use lossproof_laws::Campaign;
use lossproof_subject::Watchdog;
use std::{
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

/// Runs a test under a campaign whose watchdog ends it. A thread that hangs is left behind; the process ends
/// without it.
pub(crate) fn run<T: Send + 'static>(
    campaign: Campaign,
    test: impl FnOnce(&Campaign) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (send, receive) = mpsc::channel();
    let barking = Mutex::new(send.clone());
    let watchdog = Watchdog::new(move |subject, breach| {
        let send = barking.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody listens any more where the test has ended in the meantime.
        let _ = send.send(Err(format!(
            "{subject}: {breach} (LOSSPROOF_TIMEOUT sets the seconds that a call may take)"
        )));
    });
    let campaign = Campaign { watchdog, ..campaign };
    let spawned = thread::Builder::new().spawn(move || {
        let _ = send.send(test(&campaign));
    });
    spawned.map_err(|error| format!("no thread for the test: {error}"))?;
    receive.recv().unwrap_or_else(|_| Err("the test panicked outside the subject".to_owned()))
}

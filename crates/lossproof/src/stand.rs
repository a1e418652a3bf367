//! A subject of the run, and how a test of it is given up.
//!
//! Every test has a subject of its own, on a thread of its own: the subject is made, tested and dropped there
//! under a watchdog, and a panic of any of the three ends that test alone. Who hangs once is not waited for
//! again.

use lossproof_laws::Campaign;
use lossproof_subject::{Call, Subject, Watchdog, caught};
use std::{
    fmt::Display,
    sync::{Arc, OnceLock, mpsc},
    thread,
};

/// Makes one subject. Called once per test: tests run on threads of their own, and a subject need not be
/// `Send`.
type Constructor = Arc<dyn Fn() -> Result<Box<dyn Subject>, String> + Send + Sync>;

/// What a subject does beside its methods.
const MAKE: Call = Call::Capability("the constructor");
const DROP: Call = Call::Capability("drop");

/// A subject of the run.
#[derive(Clone)]
pub(crate) struct Stand {
    /// The prefix of its tests' names.
    pub(crate) name: String,
    /// Random cases per law, where nothing else is asked for.
    pub(crate) cases: u32,
    make: Constructor,
    /// The test in which it hung first, and how.
    hung: Arc<OnceLock<String>>,
}

impl Stand {
    pub(crate) fn new<E: Display>(
        name: &str,
        cases: u32,
        make: impl Fn() -> Result<Box<dyn Subject>, E> + Send + Sync + 'static,
    ) -> Self {
        let make = move || make().map_err(|error| error.to_string());
        Self { name: name.to_owned(), cases, make: Arc::new(make), hung: Arc::default() }
    }

    /// Makes a subject and tests it, under a campaign whose watchdog gives the test up. A thread that hangs
    /// is left behind; the process ends without it.
    pub(crate) fn hold<T: Send + 'static>(
        &self,
        test: &str,
        campaign: Campaign,
        run: impl FnOnce(&Campaign, &mut dyn Subject) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        if let Some(first) = self.hung.get() {
            return Err(format!("not tried, because {} hung in {first}", self.name));
        }
        let (send, receive) = mpsc::channel();
        let (barking, hung, test) = (send.clone(), Arc::clone(&self.hung), test.to_owned());
        let watchdog = Watchdog::new(move |subject, breach| {
            let what = format!("{breach} (LOSSPROOF_TIMEOUT sets the seconds that a call may take)");
            // Only the first is kept; others may hang at the same time. Nobody listens any more where the
            // test has ended in the meantime.
            let _ = hung.set(format!("{test}: {what}"));
            let _ = barking.send(Err(format!("{subject}: {what}")));
        });
        let (stand, campaign) = (self.clone(), Campaign { watchdog, ..campaign });
        let spawned = thread::Builder::new().spawn(move || {
            let _ = send.send(stand.made(&campaign, run));
        });
        spawned.map_err(|error| format!("no thread for the test: {error}"))?;
        receive.recv().unwrap_or_else(|_| Err("the thread of the test ended without an answer".to_owned()))
    }

    /// Makes a subject, tests it and drops it.
    fn made<T>(
        &self,
        campaign: &Campaign,
        run: impl FnOnce(&Campaign, &mut dyn Subject) -> Result<T, String>,
    ) -> Result<T, String> {
        let made = self.guarded(&campaign.watchdog, MAKE, || (self.make)())?;
        let mut subject = made.map_err(|error| format!("the subject could not be made: {error}"))?;
        let found = caught(|| run(campaign, &mut *subject));
        let dropped = self.guarded(&campaign.watchdog, DROP, || drop(subject));
        // The calls of a subject are guarded one by one: this is what its card or its panic led to.
        let found =
            found.map_err(|message| format!("a panic between the calls of the subject: {message}"))??;
        dropped.map(|()| found)
    }

    /// Carries out what the checks of a subject do not see: no panic gets through, and no hang.
    fn guarded<T>(&self, watchdog: &Watchdog, call: Call, run: impl FnOnce() -> T) -> Result<T, String> {
        watchdog.guard(&self.name, call, run).map_err(|breach| breach.to_string())
    }
}

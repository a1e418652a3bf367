//! A watch over calls that may never return.
//!
//! Rust cannot end a call from outside. What can be done is to say which call hangs and to go on without it:
//! one thread watches the calls of all subjects of the process and, when one is over its time, tells the
//! [`Watchdog`]'s owner.

use crate::{Breach, Call, caught};
use std::{
    env, fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Seconds that a call may take, in the environment.
const VARIABLE: &str = "LOSSPROOF_TIMEOUT";

/// Seconds that a call may take where nothing else is said: many times what the largest GPT-2 needs for one
/// pass on a processor.
const SECONDS: u64 = 600;

/// The longest time: no clock reaches the end of more, and nobody waits for it.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// Hears that a call of the subject with this name is over its time.
type Bark = Arc<dyn Fn(&str, &Breach) + Send + Sync>;

/// How long a call of a subject may take, and who hears when it is over.
#[derive(Clone)]
pub struct Watchdog {
    limit: Duration,
    bark: Bark,
}

impl Default for Watchdog {
    /// The time in `LOSSPROOF_TIMEOUT`, in seconds, or ten minutes. A call over its time ends the process
    /// with status 1 after the subject and the call were named on standard error: nothing else can be waited
    /// for.
    fn default() -> Self {
        Self::new(|subject, breach| {
            eprintln!("error: {subject}: {breach} (set {VARIABLE} to the seconds that a call may take)");
            std::process::exit(1);
        })
    }
}

impl Watchdog {
    /// Calls `bark` with the name of the subject and a [`Breach::Hung`] when a call is over the time in
    /// `LOSSPROOF_TIMEOUT`, or ten minutes. It is called on a thread of its own, while the call still hangs.
    ///
    /// Where [`time_limit`](Self::time_limit) is an error, the time is ten minutes: a run asks for it first.
    #[must_use]
    pub fn new(bark: impl Fn(&str, &Breach) + Send + Sync + 'static) -> Self {
        let limit = Self::time_limit().unwrap_or(Duration::from_secs(SECONDS));
        Self { limit, bark: Arc::new(bark) }
    }

    /// The time in `LOSSPROOF_TIMEOUT`, in seconds, or ten minutes where it is not set.
    ///
    /// # Errors
    /// What the variable holds is no number of seconds above zero; the message names it.
    pub fn time_limit() -> Result<Duration, String> {
        limit(env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned()).as_deref())
    }

    /// The same with another time, whatever the environment says.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Carries out a call of a subject, or what may hang and panic like one: its constructor, its `drop`.
    /// Neither gets through.
    ///
    /// # Errors
    /// [`Breach::Panicked`], where it panics.
    pub fn guard<T>(&self, subject: &str, call: Call, run: impl FnOnce() -> T) -> Result<T, Breach> {
        let watched = self.watch(subject, call);
        // After a panic the subject is asked again only for what is reset before.
        let answer = caught(run);
        drop(watched);
        answer.map_err(|message| Breach::Panicked { call, message })
    }

    /// Watches a call until what is returned is dropped.
    fn watch(&self, subject: &str, call: Call) -> Watched {
        let watcher = watcher();
        let mut state = lock(watcher);
        state.started += 1;
        let id = state.started;
        let (subject, bark) = (subject.to_owned(), Arc::clone(&self.bark));
        let deadline = Instant::now() + self.limit.min(LONGEST);
        state.calls.push(Running { id, deadline, subject, call, limit: self.limit, bark });
        if deadline < state.wakes {
            watcher.changed.notify_one();
        }
        Watched { id }
    }
}

/// The time that a value of the variable sets.
fn limit(value: Option<&str>) -> Result<Duration, String> {
    let Some(value) = value else { return Ok(Duration::from_secs(SECONDS)) };
    match value.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{VARIABLE} takes a number of seconds above zero, not `{value}`")),
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A call that is being watched.
#[derive(Debug)]
pub(crate) struct Watched {
    id: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(watcher()).calls.retain(|call| call.id != self.id);
    }
}

struct Running {
    id: u64,
    deadline: Instant,
    subject: String,
    call: Call,
    limit: Duration,
    bark: Bark,
}

struct State {
    calls: Vec<Running>,
    started: u64,
    /// When the watching thread looks next.
    wakes: Instant,
}

struct Watcher {
    state: Mutex<State>,
    changed: Condvar,
}

fn lock(watcher: &Watcher) -> MutexGuard<'_, State> {
    // Nothing in here leaves the list half changed.
    watcher.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The watcher of this process, whose thread starts with the first call.
fn watcher() -> &'static Watcher {
    static WATCHER: OnceLock<Watcher> = OnceLock::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    let watcher = WATCHER.get_or_init(|| Watcher {
        state: Mutex::new(State { calls: Vec::new(), started: 0, wakes: Instant::now() }),
        changed: Condvar::new(),
    });
    STARTED.get_or_init(|| {
        thread::spawn(|| run(watcher));
    });
    watcher
}

/// Looks for calls over their time, for as long as the process lives.
fn run(watcher: &Watcher) {
    let mut state = lock(watcher);
    loop {
        let now = Instant::now();
        let overdue = state.calls.iter().position(|call| call.deadline <= now);
        if let Some(index) = overdue {
            let call = state.calls.swap_remove(index);
            drop(state);
            let breach = Breach::Hung { call: call.call, seconds: call.limit.as_secs() };
            (call.bark)(&call.subject, &breach);
            state = lock(watcher);
            continue;
        }
        let next = state.calls.iter().map(|call| call.deadline).min();
        // Nothing to watch: an hour is as good as any time, a new call wakes the thread.
        let pause = next.map_or(Duration::from_hours(1), |next| next - now);
        state.wakes = now + pause;
        state = watcher.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_call_over_its_time_is_named_once_and_one_within_it_is_not() {
        let (send, heard) = channel();
        let send = Mutex::new(send);
        let dog = Watchdog::new(move |subject, breach| {
            let send = send.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = send.send((subject.to_owned(), breach.clone()));
        });
        let dog = dog.with_limit(Duration::from_millis(50));
        drop(dog.watch("quick", Call::Evaluate));
        let slow = dog.watch("slow", Call::Accumulate);
        let (subject, breach) = heard.recv_timeout(Duration::from_secs(20)).expect("the watch hears of it");
        assert_eq!((subject.as_str(), breach), ("slow", Breach::Hung { call: Call::Accumulate, seconds: 0 }));
        drop(slow);
        assert!(heard.recv_timeout(Duration::from_millis(200)).is_err());
    }

    #[test]
    fn the_longest_time_is_no_time_that_the_clock_does_not_have() {
        let most = limit(Some(&u64::MAX.to_string())).expect("a number");
        assert_eq!(Watchdog::default().with_limit(most).guard("patient", Call::Reset, || 7).ok(), Some(7));
    }

    #[test]
    fn what_is_no_time_is_an_error_that_names_the_variable() {
        assert_eq!(limit(None), Ok(Duration::from_secs(SECONDS)));
        assert_eq!(limit(Some("3")), Ok(Duration::from_secs(3)));
        for wrong in ["", "0", "-1", "ten", "1.5"] {
            let error = limit(Some(wrong)).expect_err(wrong);
            assert!(error.contains(VARIABLE) && error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}

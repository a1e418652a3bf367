//! The last that a process wrote to standard error.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Bytes that are kept.
const KEPT: usize = 1 << 12;

/// Lines that are shown.
const SHOWN: usize = 6;

/// How long the end of the stream is waited for before its last lines are shown: a process that is gone has written
/// them, and the thread may not have read them yet. One that it started may hold the stream open.
const PATIENCE: Duration = Duration::from_secs(2);

/// The end of a stream that a thread drains for as long as it lasts, so that no flood makes its writer wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    read: Arc<(Mutex<Read>, Condvar)>,
}

/// What was read of the stream.
#[derive(Debug, Default)]
struct Read {
    kept: VecDeque<u8>,
    ended: bool,
}

impl Tail {
    /// Drains the stream from now on.
    pub(crate) fn of(mut stream: impl io::Read + Send + 'static) -> Self {
        let tail = Self::default();
        let shared = Arc::clone(&tail.read);
        thread::spawn(move || {
            let (so_far, ends) = &*shared;
            let mut bytes = [0; 1 << 13];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
                so_far.kept.extend(&bytes[..read]);
                let surplus = so_far.kept.len().saturating_sub(KEPT);
                so_far.kept.drain(..surplus);
            }
            so_far.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            ends.notify_all();
        });
        tail
    }

    /// The last lines of a process that is gone, or that there are none.
    pub(crate) fn shown(&self) -> String {
        let (so_far, ends) = &*self.read;
        let so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = ends.wait_timeout_while(so_far, PATIENCE, |read| !read.ended);
        let kept: Vec<u8> = waited.unwrap_or_else(PoisonError::into_inner).0.kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return "it wrote nothing to standard error".to_owned();
        }
        let last = &lines[lines.len().saturating_sub(SHOWN)..];
        let clean = |line: &&str| line.chars().filter(|c| !c.is_control()).collect::<String>();
        format!(
            "its last words on standard error: {}",
            last.iter().map(clean).collect::<Vec<_>>().join(" | ")
        )
    }
}

//! The last that a process wrote to standard error.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// Bytes that are kept.
const KEPT: usize = 1 << 12;

/// Lines that are shown.
const SHOWN: usize = 6;

/// The end of a stream that a thread drains for as long as it lasts, so that no flood makes its writer wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
}

impl Tail {
    /// Drains the stream from now on.
    pub(crate) fn of(mut stream: impl Read + Send + 'static) -> Self {
        let tail = Self::default();
        let kept = Arc::clone(&tail.kept);
        thread::spawn(move || {
            let mut bytes = [0; 1 << 13];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&bytes[..read]);
                let surplus = kept.len().saturating_sub(KEPT);
                kept.drain(..surplus);
            }
        });
        tail
    }

    /// The last lines, or that there are none.
    pub(crate) fn shown(&self) -> String {
        let kept: Vec<u8> =
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
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

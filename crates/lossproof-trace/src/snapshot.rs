//! Traces as insta snapshots that are compared number by number.

use super::{Tolerance, Trace, compare};
use insta::{Comparator, Settings, Snapshot};
use std::sync::{Arc, Mutex, PoisonError};

/// Asserts that a [`Trace`] is, within a [`Tolerance`], the one in the snapshot.
///
/// The snapshot holds the JSON lines. Everything else is insta's own: `assert_trace!("name", trace, tolerance)` keeps
/// it in `snapshots/…name.snap` beside the test, `assert_trace!(trace, tolerance)` under the name of the test;
/// `INSTA_UPDATE` and `cargo insta review` do what they always do. A trace within the tolerance leaves the snapshot
/// as it is. When it is not, the [`Difference`](super::Difference) is the last thing the test prints.
#[macro_export]
macro_rules! assert_trace {
    ($name:expr, $trace:expr, $tolerance:expr $(,)?) => {{
        let (trace, guard) = (&$trace, $crate::Guard::new($tolerance));
        guard.settings().bind(|| $crate::insta::assert_snapshot!($name, trace.to_json_lines()));
    }};
    ($trace:expr, $tolerance:expr $(,)?) => {{
        let (trace, guard) = (&$trace, $crate::Guard::new($tolerance));
        guard.settings().bind(|| $crate::insta::assert_snapshot!(trace.to_json_lines()));
    }};
}

/// What [`assert_trace!`] compares with. It says where the traces part when it is dropped: after insta's list
/// of changed lines and its panic, where people look.
pub struct Guard {
    tolerance: Tolerance,
    said: Arc<Mutex<Option<String>>>,
}

impl Guard {
    /// A guard that lets traces be this far apart.
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self { tolerance, said: Arc::default() }
    }

    /// insta's current settings with this comparator.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::clone_current();
        settings.set_omit_expression(true);
        settings.set_comparator(Box::new(TraceComparator {
            tolerance: self.tolerance,
            said: Arc::clone(&self.said),
        }));
        settings
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(said) = self.said.lock().unwrap_or_else(PoisonError::into_inner).take() {
            eprintln!("{said}");
        }
    }
}

struct TraceComparator {
    tolerance: Tolerance,
    said: Arc<Mutex<Option<String>>>,
}

impl TraceComparator {
    fn difference(&self, reference: &Snapshot, test: &Snapshot) -> Result<(), String> {
        let trace = |snapshot: &Snapshot, whose| {
            let text = snapshot.as_text().ok_or_else(|| format!("{whose} is no text"))?;
            // insta trims the end.
            Trace::from_json_lines(&format!("{text}\n"))
                .map_err(|error| format!("{whose} is no trace: {error}"))
        };
        let (expected, actual) = (trace(reference, "the snapshot")?, trace(test, "what was recorded")?);
        compare(&expected, &actual, &self.tolerance).map(|_| ()).map_err(|difference| difference.to_string())
    }
}

impl Comparator for TraceComparator {
    fn matches(&self, reference: &Snapshot, test: &Snapshot) -> bool {
        let difference = self.difference(reference, test).err();
        let matches = difference.is_none();
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = difference;
        matches
    }

    fn matches_fully(&self, reference: &Snapshot, test: &Snapshot) -> bool {
        self.matches(reference, test) && reference.contents() == test.contents()
    }

    fn dyn_clone(&self) -> Box<dyn Comparator> {
        Box::new(Self { tolerance: self.tolerance, said: Arc::clone(&self.said) })
    }
}

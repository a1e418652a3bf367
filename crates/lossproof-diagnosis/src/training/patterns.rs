//! What each known bug of a training fails in.

use super::Pattern;
use crate::catalogue::Bug;
use std::collections::BTreeSet;

/// What each bug fails in. They are what a loop fails in that has the bug and a trainer without one behind it; a test
/// holds them to it.
const PATTERNS: &[(&str, &[(&str, &str)])] = &[];

/// The bugs that fail in this and in nothing else, as far as laws were decided.
pub(super) fn bugs_with(pattern: &Pattern, undecided: &BTreeSet<&str>) -> Vec<&'static Bug> {
    if pattern.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (id, forecast) in PATTERNS {
        let forecast: BTreeSet<(&str, &str)> =
            forecast.iter().copied().filter(|(law, _)| !undecided.contains(law)).collect();
        let same = forecast.len() == pattern.len()
            && pattern.iter().all(|(law, kind)| forecast.contains(&(*law, kind.as_str())));
        if same {
            found.extend(Bug::of_training().find(|bug| bug.id == *id));
        }
    }
    found
}

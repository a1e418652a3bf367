//! What each known bug of an objective fails in.

use super::Row;
use lossproof_laws::Violation;

/// Which comparison failed: what a statement says before it comes to a loss or a parameter.
pub(super) fn check(violation: &Violation) -> String {
    match violation.statement.split_once(": ") {
        Some((check, _)) if violation.unit != "token count" => check.to_owned(),
        _ => violation.unit.clone(),
    }
}

/// What bugs fail in, each pattern with all that have it. They are what fails in the reference with the bug; a test
/// holds them to it.
pub(super) const PATTERNS: &[Row] = &[];

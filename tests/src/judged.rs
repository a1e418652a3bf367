//! A subject under one law, and without what its card says of roles.

use crate::Door;
use lossproof_faults::kit::{Hooks, wrap};
use lossproof_laws::{Report, Verdict};
use lossproof_spec::Role;
use lossproof_subject::ParameterInfo;

/// What is declared of a trainer's parameters is their shapes.
#[must_use]
pub fn without_roles(inner: Door) -> Door {
    let hooks = Hooks {
        parameters: |(): &(), parameters: Vec<ParameterInfo>| {
            parameters.into_iter().map(|p| ParameterInfo { role: Role::Weight, ..p }).collect()
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, (), hooks)
}

/// Expects that a law has failed, and that its report says how.
///
/// # Panics
/// When it has not, or says something else.
#[track_caller]
pub fn has_failed(report: &Report, how: &str) {
    assert_eq!(report.verdict, Verdict::Fail, "{report}");
    assert!(report.to_string().contains(how), "{report}");
}

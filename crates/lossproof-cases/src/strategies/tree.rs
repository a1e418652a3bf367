//! Shrinking a case.

use super::{
    bounds::Bounds,
    complexity::Complexity,
    draft::{Draft, Row},
    edits::PASSES,
};
use crate::Case;
use proptest::strategy::ValueTree;

/// The smallest draft known to fail, and the simplification of it that is being tried.
///
/// Proptest's own trees go through the parts of a value once, each as far as it goes: from micro-batches of 5
/// and 3 tokens they come to 4 and 1, because 3 and 3 passes. This one goes on until no edit of the whole lowers the
/// complexity and still fails.
pub(super) struct CaseTree {
    bounds: Bounds,
    best: Draft,
    candidate: Option<Draft>,
    /// Where in [`PASSES`] the next edit is, and which of its edits that is.
    next: (usize, usize),
    /// Whether `best` has become simpler since the first pass began.
    progress: bool,
}

impl CaseTree {
    pub(super) fn new(bounds: Bounds, draft: Draft) -> Self {
        Self { bounds, best: draft, candidate: None, next: (0, 0), progress: false }
    }

    /// Goes on to the next edit that makes `best` simpler.
    fn advance(&mut self) -> bool {
        let complexity = Complexity::of(&self.best);
        loop {
            let (pass, first) = self.next;
            let Some(list) = PASSES.get(pass) else {
                if !self.progress {
                    return false;
                }
                (self.next, self.progress) = ((0, 0), false);
                continue;
            };
            for (index, edit) in list(&self.best).into_iter().enumerate().skip(first) {
                let mut draft = self.best.clone();
                edit(&mut draft);
                draft.rows_mut().for_each(Row::settle);
                if self.bounds.admit(&draft) && Complexity::of(&draft) < complexity {
                    self.candidate = Some(draft);
                    self.next = (pass, index + 1);
                    return true;
                }
            }
            self.next = (pass + 1, 0);
        }
    }
}

impl ValueTree for CaseTree {
    type Value = Case;

    fn current(&self) -> Case {
        self.candidate.as_ref().unwrap_or(&self.best).case()
    }

    /// The candidate fails: it is the best now, and the same place has another edit.
    fn simplify(&mut self) -> bool {
        if let Some(candidate) = self.candidate.take() {
            self.best = candidate;
            self.progress = true;
            self.next.1 -= 1;
        }
        self.advance()
    }

    /// The candidate does not fail: back to the best, and on to the next edit.
    fn complicate(&mut self) -> bool {
        self.candidate.take().is_some() && self.advance()
    }
}

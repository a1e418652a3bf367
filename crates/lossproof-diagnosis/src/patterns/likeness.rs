//! A diagnosis by pattern as the failure of a law tells it.

use super::{Of, PatternDiagnosis};
use crate::catalogue::Bug;
use lossproof_laws::Likeness;
use std::fmt::Write as _;

/// Bugs that are listed, with their remedies.
const NAMED: usize = 4;

/// Findings that are told; a report is read in a terminal.
const EVIDENCE: usize = 6;

impl PatternDiagnosis {
    /// What the failure of a law says of it: the known bugs under which the same fails and nothing else. That is no
    /// name: a training shows few numbers, and bugs that nobody has listed fail in the same. `None` where no known bug
    /// does.
    pub(crate) fn likeness(&self) -> Option<Likeness> {
        if !self.exact || self.bugs.is_empty() {
            return None;
        }
        let bugs = self.of.bugs();
        let mut looks_like = match self.bugs.len() {
            1 => format!("what one known bug {bugs} fails in, which is no proof that it is that one:"),
            many => {
                format!("what {many} known bugs {bugs} fail in, which is no proof that it is one of them:")
            }
        };
        let named: Vec<&Bug> = self.bugs.iter().copied().take(NAMED).collect();
        for bug in &named {
            let _ = write!(looks_like, "\n{}: {}", bug.id, bug.what);
        }
        if self.bugs.len() > NAMED {
            let _ = write!(looks_like, "\nand {} more", self.bugs.len() - NAMED);
        }
        looks_like += "\nbecause of all laws these fail, and in this alone:";
        for (law, kind) in self.pattern.iter().take(EVIDENCE) {
            let _ = write!(looks_like, "\n  {law}: {kind}");
        }
        if self.pattern.len() > EVIDENCE {
            let _ = write!(looks_like, "\n  and {} more", self.pattern.len() - EVIDENCE);
        }
        for what in &self.unseen {
            let _ = write!(looks_like, "\nnot looked at: {what}");
        }
        let line = |bug: &&Bug| format!("if it is {}: {}", bug.id, bug.remedy);
        let change = named.iter().map(line).collect::<Vec<_>>().join("\n");
        Some(Likeness { looks_like, change: Some(change) })
    }
}

impl Of {
    /// Whose bugs they are.
    pub(crate) fn bugs(self) -> &'static str {
        match self {
            Self::Training => "of a training loop",
            Self::Ranks => "of a training loop, or of ranks that are apart,",
            Self::Objectives => "of what is learnt beside the next token",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis(ids: &[&str], exact: bool) -> PatternDiagnosis {
        let bugs = ids.iter().filter_map(|id| Of::Training.bug(id)).collect();
        let pattern = [("training-clipping", "parameters".to_owned())].into();
        PatternDiagnosis { of: Of::Training, pattern, bugs, exact, evidence: Vec::new(), unseen: Vec::new() }
    }

    #[test]
    fn bugs_that_fail_in_the_same_are_listed_and_none_is_said_to_be_it() {
        let Likeness { looks_like, change } =
            diagnosis(&["clip-discarded", "clip-by-last-norm"], true).likeness().unwrap();
        assert!(looks_like.starts_with("what 2 known bugs of a training loop fail in, which is no proof"));
        assert!(looks_like.contains("\nclip-discarded: ") && looks_like.contains("\nclip-by-last-norm: "));
        assert!(looks_like.ends_with("\n  training-clipping: parameters"), "{looks_like}");
        assert!(change.is_some_and(|change| change.starts_with("if it is clip-discarded: ")));
        let one = diagnosis(&["clip-discarded"], true).likeness().unwrap().looks_like;
        assert!(one.starts_with("what one known bug of a training loop fails in"), "{one}");
    }

    #[test]
    fn what_only_comes_near_is_not_listed() {
        assert_eq!(diagnosis(&["clip-discarded"], false).likeness(), None);
        assert_eq!(diagnosis(&[], true).likeness(), None);
    }
}

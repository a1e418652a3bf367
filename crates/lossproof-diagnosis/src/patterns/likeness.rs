//! A diagnosis by pattern as the failure of a law tells it.

use super::{Of, PatternDiagnosis};
use crate::likeness::{listed, remedies};
use lossproof_laws::Likeness;
use std::fmt::Write as _;

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
        let how_many = match self.bugs.len() {
            1 => "one known bug".to_owned(),
            many => format!("{many} known bugs"),
        };
        let mut looks_like =
            format!("the same laws fail as under {how_many} {bugs}, which proves no more than that:");
        looks_like += &listed(&self.bugs);
        looks_like += "\nthese laws fail, in this alone:";
        for (law, kind) in self.pattern.iter().take(EVIDENCE) {
            let _ = write!(looks_like, "\n  {law}: {kind}");
        }
        if self.pattern.len() > EVIDENCE {
            let _ = write!(looks_like, "\n  and {} more", self.pattern.len() - EVIDENCE);
        }
        for what in &self.unseen {
            let _ = write!(looks_like, "\nnot looked at: {what}");
        }
        let of_laws = Some(self.pattern.iter().map(|(law, _)| *law).collect());
        Some(Likeness { looks_like, change: Some(remedies(&self.bugs)), of_laws })
    }
}

impl Of {
    /// Whose bugs they are.
    pub(crate) fn bugs(self) -> &'static str {
        match self {
            Self::Training => "of a training loop",
            Self::Ranks => "of a training loop or of ranks that are apart",
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
        let (evidence, unseen, not_compared) = (Vec::new(), Vec::new(), Vec::new());
        PatternDiagnosis { of: Of::Training, pattern, bugs, exact, evidence, unseen, not_compared }
    }

    #[test]
    fn bugs_that_fail_in_the_same_are_listed_and_none_is_said_to_be_it() {
        let Likeness { looks_like, change, of_laws } =
            diagnosis(&["clip-discarded", "clip-by-last-norm"], true).likeness().unwrap();
        assert_eq!(of_laws, Some(["training-clipping"].into()));
        assert!(looks_like.starts_with("the same laws fail as under 2 known bugs of a training loop, which"));
        assert!(looks_like.contains("\nclip-discarded: ") && looks_like.contains("\nclip-by-last-norm: "));
        assert!(looks_like.ends_with("\n  training-clipping: parameters"), "{looks_like}");
        assert!(change.is_some_and(|change| change.starts_with("if it is clip-discarded: ")));
        let one = diagnosis(&["clip-discarded"], true).likeness().unwrap().looks_like;
        assert!(one.starts_with("the same laws fail as under one known bug of a training loop"), "{one}");
    }

    #[test]
    fn what_only_comes_near_is_not_listed() {
        assert_eq!(diagnosis(&["clip-discarded"], false).likeness(), None);
        assert_eq!(diagnosis(&[], true).likeness(), None);
    }
}

//! A diagnosis as the failure of a law tells it: what the trainer looks like, how sure that is, and what to
//! change.

use crate::{catalogue::Bug, diagnosis::Diagnosis, logging::Logging, other_loss::OtherLoss};
use lossproof_laws::Likeness;
use std::fmt::Write as _;

/// Lines of evidence that are told; a report is read in a terminal.
const EVIDENCE: usize = 3;

/// Bugs that look alike and are named, with their remedies.
const NAMED: usize = 4;

/// A likelihood above which one bug is named without a doubt in words.
const NEARLY_CERTAIN: f64 = 0.95;

impl Diagnosis {
    /// What the failure of a law says of it.
    #[must_use]
    pub fn likeness(&self) -> Likeness {
        let mut looks_like = self.names();
        if !self.sound {
            for line in self.evidence.iter().take(EVIDENCE) {
                let _ = write!(looks_like, "\nbecause {line}");
            }
            if self.evidence.len() > EVIDENCE {
                let _ = write!(looks_like, "\nand {} more", self.evidence.len() - EVIDENCE);
            }
        }
        for what in &self.unseen {
            let _ = write!(looks_like, "\nnot looked at: {what}");
        }
        Likeness { looks_like, change: self.change(), of_laws: None }
    }

    /// The bug or bugs that it looks like, with how sure that is.
    fn names(&self) -> String {
        match (self.first().as_slice(), self.candidates.first()) {
            ([bug], Some(candidate)) => {
                let (sure, likelihood) = (how_sure(candidate.likelihood), candidate.likelihood);
                format!("{sure} {} (likelihood {likelihood:.2}): {}", bug.id, bug.what)
            }
            (alike @ [_, _, ..], _) => {
                let mut text = format!("one of {} bugs that nothing here tells apart:", alike.len());
                text += &listed(alike);
                text
            }
            _ => self.without_a_name(),
        }
    }

    /// Where no known bug shows everything that was seen.
    fn without_a_name(&self) -> String {
        if self.sound {
            // A law fails, so something is wrong.
            return format!(
                "nothing that a diagnosis looks at: none of {} losses, gradients and steps on designed probes \
                 contradicts another or what is known",
                self.examined
            );
        }
        if self.examined == 0 {
            return "nothing: it could not be examined".to_owned();
        }
        if self.logging.as_ref().is_some_and(|logging| logging.alone) {
            return "another loss is logged than the card declares, and nothing else is wrong".to_owned();
        }
        if let Some(other) = &self.other_loss {
            return format!("another loss than the claimed one: {}", other.statement());
        }
        let mut text = "no known bug".to_owned();
        if let Some((bug, against)) = &self.nearest {
            let _ = write!(text, "; the nearest is {}, which does not explain {against}", bug.id);
        }
        text
    }

    /// What mends it, where that is known.
    fn change(&self) -> Option<String> {
        match self.first().as_slice() {
            [] if self.other_loss.is_some() => Some(OtherLoss::REMEDY.to_owned()),
            [] => {
                let alone = self.logging.as_ref().is_some_and(|logging| logging.alone);
                (alone && !self.sound).then(|| Logging::REMEDY.to_owned())
            }
            [bug] => Some(bug.remedy.to_owned()),
            alike => Some(remedies(alike)),
        }
    }
}

/// Bugs that look alike, a line each, and how many more there are.
pub(crate) fn listed(bugs: &[&Bug]) -> String {
    let mut text = String::new();
    for bug in bugs.iter().take(NAMED) {
        let _ = write!(text, "\n{}: {}", bug.id, bug.what);
    }
    if bugs.len() > NAMED {
        let _ = write!(text, "\nand {} more", bugs.len() - NAMED);
    }
    text
}

/// What mends each of the bugs that are listed.
pub(crate) fn remedies(bugs: &[&Bug]) -> String {
    let line = |bug: &&Bug| format!("if it is {}: {}", bug.id, bug.remedy);
    bugs.iter().take(NAMED).map(line).collect::<Vec<_>>().join("\n")
}

/// How sure a likelihood is, in words.
fn how_sure(likelihood: f64) -> &'static str {
    match likelihood {
        sure if sure > NEARLY_CERTAIN => "almost certainly",
        likely if likely > 0.5 => "probably",
        _ => "perhaps",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explanations::Candidate;

    fn diagnosis(bugs: &[(&str, f64)]) -> Diagnosis {
        let mut candidates = Vec::new();
        for &(id, likelihood) in bugs {
            let bug = Bug::all().find(|bug| bug.id == id).expect("a bug of the catalogue");
            candidates.push(Candidate { bug, likelihood, predicted: 9 });
        }
        let evidence = (1..=4).map(|number| format!("finding {number}")).collect();
        Diagnosis { candidates, evidence, examined: 9, ..Diagnosis::of_nothing("steps".to_owned()) }
    }

    #[test]
    fn a_bug_is_named_with_its_likelihood_its_evidence_and_its_remedy() {
        let Likeness { looks_like, change, .. } = diagnosis(&[("shift-twice", 0.98)]).likeness();
        assert!(looks_like.starts_with("almost certainly shift-twice (likelihood 0.98): "), "{looks_like}");
        assert!(looks_like.ends_with(
            "\nbecause finding 1\nbecause finding 2\nbecause finding 3\nand 1 more\nnot looked at: steps"
        ));
        assert!(change.is_some_and(|change| change.starts_with("shift once: ")));
        let perhaps = diagnosis(&[("shift-twice", 0.4)]).likeness().looks_like;
        assert!(perhaps.starts_with("perhaps shift-twice (likelihood 0.40)"), "{perhaps}");
    }

    #[test]
    fn a_name_that_is_no_likelier_than_one_that_nobody_knows_is_no_more_than_perhaps() {
        let said = |likelihood: f64| diagnosis(&[("shift-twice", likelihood)]).to_string();
        assert!(said(0.5).contains("\nperhaps shift-twice (likelihood 0.50): "), "{}", said(0.5));
        assert!(said(0.98).contains("\nlooks like shift-twice: "), "{}", said(0.98));
        let alike = diagnosis(&[("shift-twice", 0.4), ("token-mean-not-divided", 0.4)]).to_string();
        assert!(alike.contains("\nlooks like shift-twice: ") && alike.contains("\nor, alike in"), "{alike}");
        let unlikely = diagnosis(&[("shift-twice", 0.1), ("token-mean-not-divided", 0.1)]).to_string();
        assert!(unlikely.contains("\nperhaps shift-twice (likelihood 0.10): "), "{unlikely}");
    }

    #[test]
    fn bugs_that_look_alike_are_all_named_and_mended() {
        let Likeness { looks_like, change, .. } =
            diagnosis(&[("shift-twice", 0.4), ("token-mean-not-divided", 0.4)]).likeness();
        assert!(looks_like.starts_with("one of 2 bugs that nothing here tells apart:\nshift-twice: "));
        let change = change.expect("remedies");
        assert!(change.starts_with("if it is shift-twice: ") && change.lines().count() == 2, "{change}");

        let many: Vec<_> = Bug::all().take(9).map(|bug| (bug.id, 0.1)).collect();
        let Likeness { looks_like, change, .. } = diagnosis(&many).likeness();
        assert!(looks_like.contains("\nand 5 more\nbecause finding 1"), "{looks_like}");
        assert_eq!(change.map(|change| change.lines().count()), Some(NAMED));
    }

    #[test]
    fn what_nobody_knows_has_no_remedy() {
        let Likeness { looks_like, change, .. } = diagnosis(&[]).likeness();
        assert!(looks_like.starts_with("no known bug\nbecause finding 1"), "{looks_like}");
        assert_eq!(change, None);
    }

    #[test]
    fn every_bug_of_the_catalogue_says_what_to_change() {
        for bug in Bug::all() {
            assert!(bug.remedy.split_whitespace().count() >= 4, "{}: {}", bug.id, bug.remedy);
        }
    }
}

//! What a whole run says of one subject: counted, and what it certifies and does not.

use crate::{LAWS, Report, Verdict, clauses::step::MOST_STEPS};
use lossproof_cases::strategies::Size;
use std::fmt;

/// Laws of which one must pass for the scale of the gradient to be anchored: they know it from elsewhere than
/// the subject's own gradients.
const GRADIENT_ANCHORS: &[&str] = &["closed-form-gradient", "finite-differences", "loss-slope", "step-slope"];

/// The same for the scale of the loss.
const LOSS_ANCHORS: &[&str] = &["normalisation", "token-loss", "uniform-logits", "finite-differences"];

/// Groups of clauses in `docs/SPEC.md`, by the number before the point.
const GROUPS: &[(&str, &str)] = &[
    ("1", "the token loss"),
    ("2", "reductions"),
    ("3", "ignored labels and padding"),
    ("4", "gradient accumulation"),
    ("5", "ranks"),
    ("6", "the model"),
    ("7", "the optimizer step"),
    ("8", "validation"),
    ("9", "stopping and resuming"),
    ("10", "the training loop"),
];

/// The reports of one subject, put together.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What the subject is called.
    pub subject: String,
    /// Laws with this verdict, in the order of [`Verdict::ALL`].
    counts: Vec<usize>,
    /// The weakest power of any law that passed.
    power: Option<f64>,
    anchors: Vec<&'static str>,
    /// What no law that passed looks at, by name.
    pub not_covered: Vec<String>,
}

impl Summary {
    /// Of a subject's reports, each with its verdict after expectations, on batches of up to this size: what of the
    /// campaign's the subject takes ([`Size::within`]).
    pub fn new<'a>(
        subject: &str,
        size: &Size,
        reports: impl IntoIterator<Item = (&'a Report, Verdict)>,
    ) -> Self {
        let mut counts = vec![0; Verdict::ALL.len()];
        let (mut power, mut anchors, mut groups) = (None::<f64>, Vec::new(), Vec::new());
        let mut not_covered = Vec::new();
        for (report, verdict) in reports {
            counts[verdict as usize] += 1;
            // What the card rules out says so where it is ignored; this was found while the law ran.
            if verdict == Verdict::Unsupported && report.cases > 0 {
                let reason = report.reason.as_deref().unwrap_or("it lacks something");
                not_covered.push(format!("{} ({reason})", report.law.id()));
            }
            if verdict != Verdict::Pass {
                continue;
            }
            if let Some(own) = report.power {
                // Cases differ in what they can tell: what one of them was seen to be off by, and may be, is
                // not ruled out by another that is stricter.
                let seen = report.worst.as_ref().map_or(0.0, |worst| worst.error);
                power = Some(power.map_or(own, |weakest: f64| weakest.max(own)).max(seen));
            }
            let law = report.law.id();
            if GRADIENT_ANCHORS.contains(&law) || LOSS_ANCHORS.contains(&law) {
                anchors.push(law);
            }
            groups.extend(report.law.clauses().filter_map(|clause| clause.id.split('.').next()));
        }
        // Tests run side by side, and end in any order.
        anchors.sort_by_key(|anchor| LAWS.iter().position(|law| law.id() == *anchor));
        for (anchoring, what) in [
            (LOSS_ANCHORS, "the scale of the loss (no law that knows it from elsewhere passed)"),
            (GRADIENT_ANCHORS, "the scale of the gradient (no law that knows it from elsewhere passed)"),
        ] {
            if !anchors.iter().any(|law| anchoring.contains(law)) {
                not_covered.push(what.to_owned());
            }
        }
        for (group, what) in GROUPS {
            if !groups.contains(group) {
                not_covered.push((*what).to_owned());
            }
        }
        if !["finite-differences", "loss-slope"].iter().any(|law| anchors.contains(law)) {
            let but = if anchors.contains(&"step-slope") { ", but along its own steps" } else { "" };
            not_covered.push(format!(
                "the backward pass below the head{but} (no law that takes slopes of the loss passed)"
            ));
        }
        let Size { ranks, micro_batches, sequences, positions } = size;
        not_covered.push(format!(
            "batches of more than {}, {}, {} or {}; more than {MOST_STEPS} optimizer steps",
            counted(*ranks.end(), "rank"),
            counted(*micro_batches.end(), "micro-batch"),
            counted(*sequences.end(), "sequence"),
            counted(*positions.end(), "position")
        ));
        // Every law compares a trainer with itself or with closed forms of its head.
        not_covered.push(
            "the architecture between embedding and head (hold it to a second implementation)".to_owned(),
        );
        Self { subject: subject.to_owned(), counts, power, anchors, not_covered }
    }

    /// Laws with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.counts[verdict as usize]
    }

    /// Laws that were decided, one way or the other.
    #[must_use]
    pub fn decided(&self) -> usize {
        let decided = |verdict: &&Verdict| verdict.decides();
        Verdict::ALL.iter().filter(decided).map(|&verdict| self.count(verdict)).sum()
    }

    /// Laws that passed, or failed as expected.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.count(Verdict::Pass) + self.count(Verdict::ExpectedFailure)
    }

    /// What a green certifies, in one sentence.
    #[must_use]
    pub fn certifies(&self) -> String {
        let laws = match self.count(Verdict::Pass) {
            1 => "1 law holds".to_owned(),
            laws => format!("{laws} laws hold"),
        };
        let power = match self.power {
            Some(power) if power.is_finite() => format!("to a relative error of {power:.1e}"),
            _ => "with no power to speak of".to_owned(),
        };
        let anchors = match self.anchors.as_slice() {
            [] => "without an anchor".to_owned(),
            anchors => format!("anchored by {}", anchors.join(", ")),
        };
        format!("{laws} {power}, {anchors}")
    }
}

/// A count with its noun, which forms its plural with an s or, after a sibilant, es.
fn counted(count: usize, noun: &str) -> String {
    let ending = match (count, noun.ends_with("ch")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {noun}{ending}")
}

/// One line of counts, one of what is certified, one of what is not.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} decided ({} passed, {} failed, {} failed as expected, {} passed unexpectedly), {} unsupported, \
             {} unchecked, {} errored",
            self.subject,
            self.decided(),
            self.count(Verdict::Pass),
            self.count(Verdict::Fail),
            self.count(Verdict::ExpectedFailure),
            self.count(Verdict::UnexpectedPass),
            self.count(Verdict::Unsupported),
            self.count(Verdict::Unchecked),
            self.count(Verdict::Errored),
        )?;
        if self.count(Verdict::Pass) > 0 {
            write!(f, "\n  certified: {}", self.certifies())?;
        }
        write!(f, "\n  not covered: {}", self.not_covered.join("; "))
    }
}

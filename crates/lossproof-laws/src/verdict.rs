//! What became of a law.

use std::fmt;

/// What became of a law. Only [`Pass`](Self::Pass) and [`ExpectedFailure`](Self::ExpectedFailure) are green.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every comparison of every case is within its bound, everything that is to be certified was certified
    /// at least once, and each such thing, changed by four times the power, makes the law fail.
    Pass,
    /// A case broke the law.
    Fail,
    /// A case broke the law, as `lossproof.toml` says it does.
    ExpectedFailure,
    /// The law holds although `lossproof.toml` says that it fails.
    UnexpectedPass,
    /// The subject's card rules out what the law needs.
    Unsupported,
    /// Nothing was compared, no case could have told a violation, the effect of something lay below its bound
    /// in every case, or the negative control was missed. Never a pass.
    Unchecked,
    /// The subject failed where it should not.
    Errored,
}

impl Verdict {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Pass,
        Self::Fail,
        Self::ExpectedFailure,
        Self::UnexpectedPass,
        Self::Unsupported,
        Self::Unchecked,
        Self::Errored,
    ];

    /// Whether the law was decided, one way or the other.
    #[must_use]
    pub fn decides(self) -> bool {
        matches!(self, Self::Pass | Self::Fail | Self::ExpectedFailure | Self::UnexpectedPass)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::ExpectedFailure => "expected failure",
            Self::UnexpectedPass => "UNEXPECTED PASS",
            Self::Unsupported => "unsupported",
            Self::Unchecked => "UNCHECKED",
            Self::Errored => "ERRORED",
        })
    }
}

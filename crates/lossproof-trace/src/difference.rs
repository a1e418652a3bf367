//! Where two traces part.

use super::plot::Plot;
use std::fmt;

/// A column of a trace. They are in the order in which a step computes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Quantity {
    /// Whether the step was skipped: 1 or 0.
    Skipped,
    /// The count of supervised tokens; NaN where there is none.
    SupervisedTokens,
    /// The learning rate.
    LearningRate,
    /// The loss.
    Loss,
    /// The norm of the whole gradient.
    GradNorm,
    /// What the gradient was multiplied with.
    ClipFactor,
    /// The norm of one parameter's gradient.
    TensorNorm(String),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped => f.write_str("skipped"),
            Self::SupervisedTokens => f.write_str("supervised tokens"),
            Self::LearningRate => f.write_str("learning rate"),
            Self::Loss => f.write_str("loss"),
            Self::GradNorm => f.write_str("grad norm"),
            Self::ClipFactor => f.write_str("clip factor"),
            Self::TensorNorm(parameter) => write!(f, "grad norm of {parameter}"),
        }
    }
}

/// Where two traces part first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Difference {
    /// They are not traces of the same run.
    Run {
        /// What differs: a field of the header.
        field: &'static str,
        /// That field of the expected trace.
        expected: String,
        /// That of the actual one.
        actual: String,
    },
    /// They cannot be told apart: a bound of 1 holds nothing, a norm of zero is within it.
    Vacuous {
        /// The last step.
        step: usize,
        /// The bound there, 1 or more, or NaN.
        bound: f64,
    },
    /// They are, and one reports other numbers than the other.
    Numbers(Box<Numbers>),
}

/// A step at which two traces of one run report different numbers, the first one.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// The number of the step, from 1.
    pub step: usize,
    /// The quantity that is furthest off at that step; of several about equally far off, the one that is
    /// computed first.
    pub quantity: Quantity,
    /// What was expected of it.
    pub expected: f64,
    /// What came.
    pub actual: f64,
    /// The relative error.
    pub error: f64,
    /// The bound it is above.
    pub bound: f64,
    /// All other quantities that are off at that step.
    pub others: Vec<Quantity>,
    /// How many steps differ, this one included.
    pub steps: usize,
    /// Who computed what was expected, and what came.
    pub computed_by: [String; 2],
    /// The quantity at every step: what was expected, and what came.
    pub curves: [Vec<f64>; 2],
}

impl Numbers {
    /// What came, as a multiple of what was expected.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.actual / self.expected
    }
}

/// Other quantities that are named.
const NAMED: usize = 3;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { field, expected, actual } => {
                writeln!(f, "these are not traces of the same run: they differ in `{field}`")?;
                writeln!(f, "  expected  {expected}")?;
                writeln!(f, "  actual    {actual}")?;
                f.write_str("record both with one plan, on the same model and batches")
            }
            Self::Vacuous { step, bound } => write!(
                f,
                "nothing was compared: at step {step} the tolerance is {bound:.1e}, and from 1 on it lets everything pass; \
                 record fewer steps, or give the errors that were measured of this trainer to `Tolerance::new`"
            ),
            Self::Numbers(numbers) => numbers.fmt(f),
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, quantity, expected, actual, error, bound, others, steps, .. } = self;
        let [theirs, ours] = &self.computed_by;
        let [before, after] = &self.curves;
        writeln!(f, "the traces part at step {step} of {}: {quantity}", before.len())?;
        writeln!(f, "  expected  {expected:<24?} {theirs}")?;
        writeln!(f, "  actual    {actual:<24?} {ours}")?;
        writeln!(f, "  ratio     {:.6}", self.ratio())?;
        writeln!(f, "  error     {error:.1e}, at most {bound:.1e} at this step")?;
        if !others.is_empty() {
            let named: Vec<_> = others.iter().take(NAMED).map(Quantity::to_string).collect();
            write!(f, "  with it   {}", named.join(", "))?;
            match others.len() - named.len() {
                0 => writeln!(f)?,
                more => writeln!(f, " and {more} more")?,
            }
        }
        writeln!(f, "  in all    {steps} of {} steps differ", before.len())?;
        writeln!(f)?;
        writeln!(f, "  {quantity} by step: · expected, × actual, ∗ both")?;
        let places: Vec<u64> = (1..).take(before.len()).collect();
        write!(f, "{}", Plot { axis: "step", places: &places, expected: before, actual: after })
    }
}

impl std::error::Error for Difference {}

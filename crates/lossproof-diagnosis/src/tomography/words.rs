//! A tomogram in words.

use super::{Tomogram, Unexplained, WeightGroup, WeightSource};
use std::fmt;

impl Tomogram {
    /// Whether rounding and noise explain the whole residual.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.unexplained.is_empty()
    }

    /// What the residual says, when rounding does not explain it: the tensors that carry it.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let first = self.unexplained.first()?;
        let part = |part: &Unexplained| {
            let Unexplained { name, residual, bound, share } = part;
            format!(
                "{name} ({:.0} % of it; {residual:.1e} where rounding explains {bound:.1e})",
                100.0 * share
            )
        };
        let others = match self.unexplained.len() - 1 {
            0 => String::new(),
            1 => ", and one other".to_owned(),
            others => format!(", and {others} others"),
        };
        let carriers = format!("no weights explain {}{others}", part(first));
        Some(match self.source {
            WeightSource::Gradient => {
                format!("backward fault, or other token losses than supposed: {carriers}")
            }
            WeightSource::ReportedLoss => {
                format!("the reported loss is no weighted sum of these token losses: {carriers}")
            }
        })
    }
}

impl fmt::Display for WeightGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.members.iter().map(ToString::to_string).collect();
        match members.as_slice() {
            [one] => write!(f, "unknown {one} is not determined")?,
            _ => write!(f, "unknowns {} cannot be told apart", members.join(", "))?,
        }
        match self.sum {
            Some((sum, error)) => write!(f, "; together they weigh {sum} ± {error:.1e}"),
            None => Ok(()),
        }
    }
}

//! A tomogram in words.

use super::{Tomogram, Unexplained, Weight, WeightGroup, WeightSource};
use std::fmt;

impl Tomogram {
    /// Whether rounding and noise explain the whole residual.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.unexplained.is_empty()
    }

    /// The weights that are determined, one by one.
    pub fn determined(&self) -> impl Iterator<Item = &Weight> {
        self.weights.iter().filter(|weight| weight.group.is_none())
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

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            None => write!(f, "{}: {} ± {:.1e}", self.name, self.value, self.error),
            Some(group) => write!(f, "{}: in group {group}", self.name),
        }
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

impl fmt::Display for Tomogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { condition, equations, residual, bound, .. } = self;
        writeln!(f, "{} weights from {equations} equations, condition {condition:.1}", self.weights.len())?;
        writeln!(f, "residual {residual:.1e}, of which rounding explains {bound:.1e}")?;
        for weight in &self.weights {
            writeln!(f, "  {weight}")?;
        }
        for (index, group) in self.groups.iter().enumerate() {
            writeln!(f, "group {index}: {group}")?;
        }
        if let Some(fault) = self.fault() {
            writeln!(f, "{fault}")?;
        }
        for part in self.unexplained.iter().skip(1) {
            let Unexplained { name, residual, share, .. } = part;
            writeln!(f, "  also {name}: {:.0} % of it, {residual:.1e}", 100.0 * share)?;
        }
        // Weights that explain nothing are nobody's.
        if let Some(policy) = self.policy.as_ref().filter(|_| self.is_explained()) {
            writeln!(f, "{}", policy.comparison)?;
        }
        for what in &self.undetermined {
            writeln!(f, "undetermined: {what}")?;
        }
        Ok(())
    }
}

//! Which GPUs the kernels are compiled for.

use std::fmt;
use std::str::FromStr;

/// The oldest that dfdx 0.13.0 compiles for under CUDA 13: for those before, its own `__hmax_nan` collides with CUDA's.
const OLDEST: u32 = 80;

/// A GPU's compute capability: 9.0 is an H100. Kernels run on GPUs of this capability and later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ComputeCap(u32);

impl ComputeCap {
    /// As nvcc's `sm_90` writes it: 90.
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

/// As `nvidia-smi` prints it: 9.0.
impl fmt::Display for ComputeCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Reads `9.0` and `90`.
impl FromStr for ComputeCap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = match text.split_once('.') {
            Some((major, minor)) if minor.len() == 1 => format!("{major}{minor}").parse(),
            Some(_) => return Err(format!("{text} is no compute capability: write it as 9.0 or 90")),
            None => text.parse(),
        };
        match number {
            Ok(number) if number >= OLDEST => Ok(Self(number)),
            Ok(_) => Err(format!("dfdx compiles for {} and later", Self(OLDEST))),
            Err(error) => Err(format!("{error}: write it as 9.0 or 90")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_capability() {
        for (text, number, printed) in
            [("90", 90, "9.0"), ("9.0", 90, "9.0"), ("8.6", 86, "8.6"), ("120", 120, "12.0")]
        {
            let cap: ComputeCap = text.parse().unwrap();
            assert_eq!((cap.number(), cap.to_string().as_str()), (number, printed));
        }
    }

    #[test]
    fn what_nvcc_or_dfdx_would_refuse_much_later_is_refused_at_once() {
        for text in ["7.5", "75", "9", "sm_90", "9.00", "", "."] {
            assert!(text.parse::<ComputeCap>().is_err(), "{text}");
        }
    }
}

//! The class of every fault behind every profile and claim, as a text: what one release is compared with by the
//! next.

use crate::{Class, Fault, NamedClaim, Profile};
use lossproof_spec::Dtype;
use lossproof_subject::Count;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// What trainers are like in one column of the tables: precision, and how many micro-batches they take.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its head.
    pub name: &'static str,
    /// Arithmetic of the trainers.
    pub dtype: Dtype,
    /// As many as they take.
    pub micro_batches: Count,
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 3] = [
        Self { name: "f64", dtype: Dtype::F64, micro_batches: Count::ANY },
        Self { name: "f32", dtype: Dtype::F32, micro_batches: Count::ANY },
        Self { name: "K = 4", dtype: Dtype::F64, micro_batches: Count::exactly(4) },
    ];
}

/// The classes of a fault in all columns.
pub type ByColumn = [Class; Column::ALL.len()];

/// The class of each fault behind each profile and claim.
///
/// As a text it has one part for each profile, in that one line for each fault, and in that a word for each claim,
/// with [the letters](Class::letter) of all columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes(BTreeMap<[&'static str; 3], ByColumn>);

/// What is wrong with a text that should be the classes of faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ClassesError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl Classes {
    /// Notes the classes of a fault.
    pub fn insert(&mut self, profile: Profile, claim: &NamedClaim, fault: &Fault, row: ByColumn) {
        self.0.insert([profile.name(), claim.name, fault.bug.id], row);
    }

    /// The classes of a fault, if they are known.
    #[must_use]
    pub fn of(&self, profile: Profile, claim: &NamedClaim, fault: &Fault) -> Option<ByColumn> {
        self.0.get(&[profile.name(), claim.name, fault.bug.id]).copied()
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "# The class of each fault: k killed, S SURVIVED, l lawful, . unchanged; for each claim in f64, in f32,\n\
             # and for exactly four micro-batches in f64. Written by `lossproof faults --profiles --classes FILE`.\n",
        )?;
        for profile in Profile::ALL {
            write!(f, "\n{:<42}", profile.name())?;
            for claim in NamedClaim::ALL {
                write!(f, " {claim}")?;
            }
            f.write_str("\n")?;
            for fault in Fault::all() {
                let mut words = Vec::new();
                for claim in NamedClaim::ALL {
                    let Some(row) = self.of(profile, &claim, fault) else { continue };
                    let letters: String = row.iter().map(|class| class.letter()).collect();
                    words.push(format!("{letters:<width$}", width = claim.name.len()));
                }
                // A line without a word for each claim could not be read again.
                if words.len() == NamedClaim::ALL.len() {
                    writeln!(f, "{:<42} {}", fault.bug.id, words.join(" ").trim_end())?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Classes {
    type Err = ClassesError;

    fn from_str(text: &str) -> Result<Self, ClassesError> {
        let mut classes = Self::default();
        let mut part: Option<(Profile, Vec<NamedClaim>)> = None;
        for (index, line) in text.lines().enumerate() {
            let wrong = |what: String| ClassesError { line: index + 1, what };
            let mut words = line.split_whitespace();
            let Some(first) = words.next().filter(|first| !first.starts_with('#')) else { continue };
            if let Ok(profile) = first.parse() {
                let claims: Result<_, String> = words.map(str::parse).collect();
                part = Some((profile, claims.map_err(wrong)?));
                continue;
            }
            let fault = Fault::named(first).ok_or_else(|| wrong(format!("there is no fault `{first}`")))?;
            let (profile, claims) =
                part.as_ref().ok_or_else(|| wrong("no profile stands above it".to_owned()))?;
            let words: Vec<&str> = words.collect();
            if words.len() != claims.len() {
                return Err(wrong(format!("{} words for {} claims", words.len(), claims.len())));
            }
            for (claim, letters) in claims.iter().zip(words) {
                let row: Option<Vec<Class>> = letters.chars().map(Class::of_letter).collect();
                let row = row.and_then(|row| ByColumn::try_from(row).ok());
                let row = row.ok_or_else(|| {
                    wrong(format!("`{letters}` are not the letters of {} classes", Column::ALL.len()))
                })?;
                if classes.of(*profile, claim, fault).is_some() {
                    return Err(wrong(format!("{first} is there twice behind {profile} and {claim}")));
                }
                classes.insert(*profile, claim, fault, row);
            }
        }
        Ok(classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut classes = Classes::default();
        for (index, fault) in Fault::all().enumerate() {
            for profile in Profile::ALL {
                for claim in NamedClaim::ALL {
                    let class = Class::ALL[index % Class::ALL.len()];
                    classes.insert(profile, &claim, fault, [class, Class::Killed, Class::Unchanged]);
                }
            }
        }
        assert_eq!(classes.to_string().parse(), Ok(classes));
    }

    #[test]
    fn a_fault_without_all_classes_is_left_out() {
        let mut classes = Classes::default();
        let fault = Fault::all().next().expect("there are faults");
        classes.insert(Profile::Bare, &NamedClaim::ALL[0], fault, [Class::Killed; 3]);
        assert_eq!(classes.to_string().parse(), Ok(Classes::default()));
    }

    #[test]
    fn a_text_that_names_no_class_is_an_error_with_its_line() {
        let error = |text: &str| text.parse::<Classes>().expect_err(text).to_string();
        assert_eq!(error("no-such-fault k"), "line 1: there is no fault `no-such-fault`");
        let fault = Fault::all().next().expect("there are faults").bug.id;
        assert_eq!(error(&format!("{fault} kkk")), "line 1: no profile stands above it");
        assert_eq!(error(&format!("bare sum\n{fault} kk")), "line 2: `kk` are not the letters of 3 classes");
        assert_eq!(
            error(&format!("bare sum\n{fault} kkx")),
            "line 2: `kkx` are not the letters of 3 classes"
        );
        assert_eq!(error(&format!("bare sum\n{fault}")), "line 2: 0 words for 1 claims");
        let twice = error(&format!("bare sum\n{fault} kkk\n{fault} kkk"));
        assert_eq!(twice, format!("line 3: {fault} is there twice behind bare and sum"));
        assert!(error("bare summe").starts_with("line 1: no such claim; there are sum"));
    }
}

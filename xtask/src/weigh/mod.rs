//! How heavy the crates are for a stranger: what comes with them into an empty package, or with the judge of trainers
//! in other languages, and how long that builds.

mod clock;
mod consumer;
mod count;
mod judge;

use crate::failure::Failure;
use crate::plug_in;
use clock::Spent;
use consumer::Consumer;
use std::path::Path;

/// The number of crates in the judge must stay under this.
const JUDGE_CRATES: usize = 115;

/// The wall seconds that the judge is built in should stay under this.
const JUDGE_SECONDS: f64 = 60.0;

/// What a stranger writes to get one of our packages, and what it may weigh.
struct Case {
    /// The package, and its folder under `crates/`.
    package: &'static str,
    /// The table of the stranger's manifest that it stands in.
    table: &'static str,
    /// The file of the stranger's package that uses it.
    file: &'static str,
    /// The cargo command that builds that file.
    build: &'static [&'static str],
    /// The number of crates must stay under this.
    crates: usize,
    /// The wall seconds should stay under this.
    seconds: f64,
}

const CASES: [Case; 2] = [
    Case {
        package: "lossproof-subject",
        table: "dependencies",
        file: "src/lib.rs",
        build: &["build"],
        crates: 25,
        seconds: 10.0,
    },
    Case {
        package: "lossproof",
        table: "dev-dependencies",
        file: "tests/conformance.rs",
        build: &["test", "--no-run"],
        crates: 80,
        seconds: 60.0,
    },
];

/// Prints one line for each case. Times differ between machines, so that one over its limit is no failure.
///
/// # Errors
/// Too many crates, or a package that does not build on its own.
pub(crate) fn weigh(root: &Path) -> Result<(), Failure> {
    let mut too_heavy = Vec::new();
    for case in &CASES {
        let consumer = Consumer::new(root, case)?;
        let crates = count::crates(&consumer.tree()?);
        // `cargo xtask plug-in` goes on with what is built last.
        let spent = consumer.build(case, &plug_in::target(root))?;
        eprintln!("{}", line(case.package, (crates, case.crates), (spent, case.seconds)));
        if crates >= case.crates {
            too_heavy.push(case.package);
        }
    }
    let crates = count::crates(&judge::tree(root)?);
    let spent = judge::build(root)?;
    eprintln!("{}", line(judge::NAME, (crates, JUDGE_CRATES), (spent, JUDGE_SECONDS)));
    if crates >= JUDGE_CRATES {
        too_heavy.push(judge::NAME);
    }
    if too_heavy.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("too many crates come with {}", too_heavy.join(" and with ")),
        "`cargo tree --edges normal,build --package NAME` says what brings them: do without a dependency, \
         or put it behind a feature that is off by default",
    ))
}

/// What is printed: crates and seconds, each beside its limit.
fn line(name: &str, (crates, most): (usize, usize), (spent, seconds): (Spent, f64)) -> String {
    let comparison = |is_under: bool| if is_under { "under" } else { "over the limit: should be under" };
    let processor =
        spent.processor.map_or(String::new(), |seconds| format!(", {seconds:.1} s of processor time"));
    format!(
        "{name}: {crates} crates ({} {most}), built in {:.1} s ({} {seconds} s){processor}",
        comparison(crates < most),
        spent.wall,
        comparison(spent.wall < seconds),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_was_measured_and_the_limits() {
        let light = line("lossproof-subject", (22, 25), (Spent { wall: 7.28, processor: None }, 10.0));
        assert_eq!(light, "lossproof-subject: 22 crates (under 25), built in 7.3 s (under 10 s)");
        let spent = Spent { wall: 60.0, processor: Some(101.26) };
        let heavy = line("lossproof", (85, 85), (spent, 60.0));
        assert_eq!(
            heavy,
            "lossproof: 85 crates (over the limit: should be under 85), built in 60.0 s (over the limit: \
             should be under 60 s), 101.3 s of processor time"
        );
    }
}

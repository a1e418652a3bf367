//! How heavy the crates are for a stranger: what comes with them into an empty package, and how long that
//! builds.

mod clock;
mod consumer;
mod count;

use crate::failure::Failure;
use crate::plug_in;
use clock::Spent;
use consumer::Consumer;
use std::path::Path;

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
        crates: 85,
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
        eprintln!("{}", line(case, crates, spent));
        if crates >= case.crates {
            too_heavy.push(case.package);
        }
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

/// What is printed for a case.
fn line(case: &Case, crates: usize, spent: Spent) -> String {
    let comparison = |is_under: bool| if is_under { "under" } else { "over the limit: should be under" };
    let processor =
        spent.processor.map_or(String::new(), |seconds| format!(", {seconds:.1} s of processor time"));
    format!(
        "{}: {crates} crates ({} {}), built in {:.1} s ({} {} s){processor}",
        case.package,
        comparison(crates < case.crates),
        case.crates,
        spent.wall,
        comparison(spent.wall < case.seconds),
        case.seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_was_measured_and_the_limits() {
        let light = line(&CASES[0], 22, Spent { wall: 7.28, processor: None });
        assert_eq!(light, "lossproof-subject: 22 crates (under 25), built in 7.3 s (under 10 s)");
        let heavy = line(&CASES[1], 85, Spent { wall: 60.0, processor: Some(101.26) });
        assert_eq!(
            heavy,
            "lossproof: 85 crates (over the limit: should be under 85), built in 60.0 s (over the limit: \
             should be under 60 s), 101.3 s of processor time"
        );
    }
}

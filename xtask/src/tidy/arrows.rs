//! Which package may depend on which. The picture of it is in docs/architecture.md.

use super::Package;
use cargo_metadata::DependencyKind;

/// What one of our packages may depend on among our packages.
enum May {
    /// These; in its tests, examples and benches also those of `in_tests`.
    Only { always: &'static [&'static str], in_tests: &'static [&'static str] },
    /// Any.
    Everything,
}

const ARROWS: [(&str, May); 26] = [
    ("lossproof-spec", May::Only { always: &[], in_tests: &[] }),
    ("lossproof-report", May::Only { always: &[], in_tests: &[] }),
    ("lossproof-files", May::Only { always: &[], in_tests: &[] }),
    ("lossproof-subject", May::Only { always: &["lossproof-spec"], in_tests: &[] }),
    (
        "lossproof-process",
        May::Only { always: &["lossproof-files", "lossproof-spec", "lossproof-subject"], in_tests: &[] },
    ),
    ("lossproof-numerics", May::Only { always: &["lossproof-spec"], in_tests: &[] }),
    (
        "lossproof-cases",
        May::Only { always: &["lossproof-files", "lossproof-spec", "lossproof-subject"], in_tests: &[] },
    ),
    (
        "lossproof-laws",
        May::Only {
            always: &[
                "lossproof-files",
                "lossproof-spec",
                "lossproof-subject",
                "lossproof-numerics",
                "lossproof-cases",
            ],
            in_tests: &[],
        },
    ),
    (
        "lossproof-diagnosis",
        May::Only {
            always: &[
                "lossproof-spec",
                "lossproof-subject",
                "lossproof-numerics",
                "lossproof-cases",
                "lossproof-laws",
            ],
            in_tests: &[],
        },
    ),
    (
        "lossproof-verify",
        May::Only {
            always: &[
                "lossproof-spec",
                "lossproof-subject",
                "lossproof-numerics",
                "lossproof-cases",
                "lossproof-laws",
            ],
            in_tests: &[],
        },
    ),
    (
        "lossproof-loop",
        May::Only { always: &["lossproof-spec", "lossproof-subject", "lossproof-trace"], in_tests: &[] },
    ),
    (
        "lossproof-mpi",
        May::Only {
            always: &["lossproof-spec", "lossproof-subject", "lossproof-process", "lossproof-loop"],
            in_tests: &[],
        },
    ),
    (
        "lossproof-trace",
        May::Only {
            always: &["lossproof-files", "lossproof-spec", "lossproof-subject", "lossproof-numerics"],
            in_tests: &[],
        },
    ),
    (
        "lossproof-logs",
        May::Only {
            always: &["lossproof-spec", "lossproof-cases", "lossproof-trace"],
            in_tests: &["lossproof-subject"],
        },
    ),
    (
        "lossproof-dumps",
        May::Only {
            always: &[
                "lossproof-spec",
                "lossproof-subject",
                "lossproof-numerics",
                "lossproof-cases",
                "lossproof-diagnosis",
            ],
            in_tests: &[],
        },
    ),
    (
        "lossproof",
        May::Only {
            always: &[
                "lossproof-spec",
                "lossproof-subject",
                "lossproof-cases",
                "lossproof-laws",
                "lossproof-diagnosis",
                "lossproof-verify",
                "lossproof-trace",
            ],
            in_tests: &[],
        },
    ),
    (
        "lossproof-gpt2",
        May::Only {
            always: &["lossproof-files", "lossproof-spec", "lossproof-subject"],
            in_tests: &["lossproof-numerics", "lossproof-cases"],
        },
    ),
    (
        "lossproof-torch",
        May::Only { always: &["lossproof-spec", "lossproof-subject"], in_tests: &["lossproof-numerics"] },
    ),
    (
        "lossproof-faults",
        May::Only {
            always: &[
                "lossproof-spec",
                "lossproof-subject",
                "lossproof-numerics",
                "lossproof-cases",
                "lossproof-gpt2",
                "lossproof-laws",
                "lossproof-diagnosis",
                "lossproof-loop",
            ],
            in_tests: &[],
        },
    ),
    (
        "lossproof-candle",
        May::Only { always: &["lossproof-spec", "lossproof-subject"], in_tests: &["lossproof"] },
    ),
    (
        "lossproof-femto-gpt",
        May::Only {
            always: &["lossproof-spec", "lossproof-subject"],
            in_tests: &["lossproof-numerics", "lossproof-cases", "lossproof-laws", "lossproof"],
        },
    ),
    (
        "lossproof-cli",
        May::Only {
            always: &[
                "lossproof-files",
                "lossproof-spec",
                "lossproof-subject",
                "lossproof-numerics",
                "lossproof-cases",
                "lossproof-laws",
                "lossproof-diagnosis",
                "lossproof-verify",
                "lossproof-trace",
                "lossproof-loop",
                "lossproof-mpi",
                "lossproof-faults",
                "lossproof-gpt2",
                "lossproof-torch",
                "lossproof-femto-gpt",
                "lossproof-process",
                "lossproof-logs",
                "lossproof-dumps",
                "lossproof-report",
            ],
            in_tests: &[],
        },
    ),
    ("xtask", May::Only { always: &[], in_tests: &[] }),
    ("lossproof-fuzz", May::Everything),
    ("lossproof-tests", May::Everything),
    ("lossproof-benches", May::Everything),
];

/// Frameworks that stay behind one package's door: the dependency, and the only package that may have it.
const DOORS: [(&str, &str); 7] = [
    ("candle-core", "lossproof-candle"),
    ("candle-nn", "lossproof-candle"),
    ("dfdx", "lossproof-gpt2"),
    ("tch", "lossproof-torch"),
    ("torch-sys", "lossproof-torch"),
    ("femto-gpt", "lossproof-femto-gpt"),
    ("mpi", "lossproof-mpi"),
];

/// The arrows among `packages` that the tables above do not allow, each with both its ends and the rule.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        let Some((_, may)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            findings.push(format!(
                "{} has no rule: add it to ARROWS in xtask/src/tidy/arrows.rs and to docs/architecture.md",
                package.name
            ));
            continue;
        };
        for (dependency, kind) in &package.dependencies {
            let ours = packages.iter().any(|other| other.name == *dependency);
            let rule =
                if ours { broken_arrow(may, dependency, *kind) } else { broken_door(package, dependency) };
            if let Some(rule) = rule {
                let kind = match kind {
                    DependencyKind::Development => "dev-dependency",
                    DependencyKind::Build => "build-dependency",
                    _ => "dependency",
                };
                findings.push(format!("{} -> {dependency} ({kind}): {rule}", package.name));
            }
        }
    }
    findings
}

fn broken_arrow(may: &May, dependency: &str, kind: DependencyKind) -> Option<String> {
    let May::Only { always, in_tests } = may else {
        return None;
    };
    let in_a_test = kind == DependencyKind::Development && in_tests.contains(&dependency);
    if always.contains(&dependency) || in_a_test {
        return None;
    }
    let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let tests =
        if in_tests.is_empty() { String::new() } else { format!(" (in tests also {})", list(in_tests)) };
    Some(format!("of our packages it may depend on {}{tests}", list(always)))
}

fn broken_door(package: &Package, dependency: &str) -> Option<String> {
    DOORS
        .iter()
        .find(|(framework, door)| *framework == dependency && *door != package.name)
        .map(|(_, door)| format!("only {door} may depend on it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, DependencyKind)]) -> Package {
        let dependencies = dependencies.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        Package {
            name: name.to_owned(),
            manifest: format!("crates/{name}/Cargo.toml").into(),
            dependencies,
            roots: Vec::new(),
        }
    }

    /// A workspace in which every one of our packages exists, and `name` has one dependency.
    fn findings(name: &str, dependency: &str, kind: DependencyKind) -> Vec<String> {
        let packages: Vec<_> = ARROWS
            .iter()
            .map(
                |(other, _)| {
                    if *other == name { package(name, &[(dependency, kind)]) } else { package(other, &[]) }
                },
            )
            .collect();
        check(&packages)
    }

    #[test]
    fn a_forbidden_arrow_is_named_with_both_ends_and_the_rule() {
        assert_eq!(
            findings("lossproof-numerics", "lossproof-torch", DependencyKind::Normal),
            [
                "lossproof-numerics -> lossproof-torch (dependency): of our packages it may depend on lossproof-spec"
            ]
        );
        assert_eq!(
            findings("lossproof-spec", "lossproof", DependencyKind::Development),
            ["lossproof-spec -> lossproof (dev-dependency): of our packages it may depend on none"]
        );
        assert_eq!(
            findings("xtask", "lossproof-spec", DependencyKind::Build),
            ["xtask -> lossproof-spec (build-dependency): of our packages it may depend on none"]
        );
    }

    #[test]
    fn the_two_implementations_never_see_each_other() {
        for (from, to) in [("lossproof-gpt2", "lossproof-torch"), ("lossproof-torch", "lossproof-gpt2")] {
            for kind in [DependencyKind::Normal, DependencyKind::Development, DependencyKind::Build] {
                assert_eq!(findings(from, to, kind).len(), 1, "{from} -> {to}");
            }
        }
    }

    #[test]
    fn an_arrow_for_tests_is_allowed_in_tests_only() {
        let of = |kind| findings("lossproof-gpt2", "lossproof-numerics", kind);
        assert!(of(DependencyKind::Development).is_empty());
        assert!(
            of(DependencyKind::Normal)[0].contains("(in tests also lossproof-numerics, lossproof-cases)")
        );
    }

    #[test]
    fn a_framework_stays_behind_its_door() {
        assert_eq!(
            findings("lossproof", "dfdx", DependencyKind::Normal),
            ["lossproof -> dfdx (dependency): only lossproof-gpt2 may depend on it"]
        );
        assert_eq!(findings("lossproof-benches", "tch", DependencyKind::Development).len(), 1);
        assert!(findings("lossproof-torch", "torch-sys", DependencyKind::Normal).is_empty());
        assert!(findings("lossproof-gpt2", "dfdx", DependencyKind::Normal).is_empty());
    }

    #[test]
    fn cross_crate_suites_may_see_every_package_of_ours() {
        for (name, _) in &ARROWS {
            assert!(findings("lossproof-tests", name, DependencyKind::Development).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_package_without_a_rule_is_a_finding() {
        let findings = check(&[package("lossproof-newcomer", &[])]);
        assert!(findings[0].starts_with("lossproof-newcomer has no rule"), "{findings:?}");
    }
}

//! The number of crates in what `cargo tree` prints.

use super::consumer;
use std::collections::BTreeSet;

/// How many crates there are in `tree`, which has one in each line, the consumer itself aside. A crate counts
/// once for each version, wherever and with whatever features it comes again.
pub(super) fn crates(tree: &str) -> usize {
    let mut crates = BTreeSet::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next())
            && version.starts_with('v')
            && name != consumer::NAME
        {
            crates.insert((name, version));
        }
    }
    crates.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
consumer v0.0.0 (/somewhere/consumer)
lossproof-subject v0.1.0 (/elsewhere/crates/lossproof-subject)
serde v1.0.229
serde_core v1.0.229
serde_derive v1.0.229 (proc-macro)
proc-macro2 v1.0.107
unicode-ident v1.0.24
quote v1.0.45
proc-macro2 v1.0.107 (*)
syn v3.0.10
proc-macro2 v1.0.107 (*)
syn v2.0.119
serde_core v1.0.229 (*)

[build-dependencies]
autocfg v1.5.0
";

    #[test]
    fn each_version_of_each_crate_counts_once_and_the_consumer_does_not() {
        assert_eq!(crates(TREE), 10);
    }

    #[test]
    fn a_package_alone_has_no_crates() {
        assert_eq!(crates("consumer v0.0.0 (/somewhere/consumer)\n"), 0);
    }
}

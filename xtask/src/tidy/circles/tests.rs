use super::super::Package;
use super::*;

/// A package `crates/x` with these sources under `src/`.
fn look(sources: &[(&str, &str)]) -> Circles {
    let package = Package {
        name: "x".to_owned(),
        manifest: "crates/x/Cargo.toml".into(),
        dependencies: Vec::new(),
        roots: vec!["crates/x/src/lib.rs".into()],
    };
    let text = |path: &Path| {
        let path = path.strip_prefix("crates/x/src").ok()?;
        sources.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
    };
    check(&[package], &text)
}

fn findings(sources: &[(&str, &str)]) -> Vec<String> {
    look(sources).findings
}

const ADVICE: &str = "move what both need into a third module";

#[test]
fn a_circle_through_direct_paths_is_named_with_both_places() {
    let findings = findings(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a.rs", "//! A.\n\nuse crate::b::B;\npub struct A(B);\n"),
        ("b.rs", "pub struct B;\nfn f() {\n    let _ = super::a::A;\n}\n"),
    ]);
    assert_eq!(findings, [format!("crates/x: circle a -> b (src/a.rs:3) -> a (src/b.rs:3): {ADVICE}")]);
}

#[test]
fn a_circle_through_re_exports_leads_to_where_things_are_defined() {
    let findings = findings(&[
        ("lib.rs", "mod a;\nmod b;\npub use a::{Inner, One};\npub use b::B;\n"),
        ("a/mod.rs", "mod inner;\nmod one;\npub use inner::Inner as Inner;\npub(crate) use one::*;\n"),
        ("a/inner.rs", "use crate::B;\npub struct Inner(B);\n"),
        ("a/one.rs", "pub struct One;\n"),
        ("b.rs", "pub struct B;\nfn f(_: &crate::One) {}\n"),
    ]);
    assert_eq!(findings, [format!("crates/x: circle a -> b (src/a/inner.rs:1) -> a (src/b.rs:2): {ADVICE}")]);
}

#[test]
fn modules_that_build_on_each_other_in_one_direction_are_fine() {
    let circles = look(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\npub use c::C;\npub struct Root;\n"),
        ("a.rs", "pub struct A;\nfn f(_: crate::Root) {}\n"),
        ("b.rs", "use crate::a::A;\nuse std::fmt;\npub struct B(A, crate::Root);\n"),
        ("c.rs", "use crate::{a, b::B};\npub struct C(a::A, B);\n"),
    ]);
    assert!(circles.findings.is_empty(), "{:?}", circles.findings);
    assert_eq!(circles.arrows, 3);
}

#[test]
fn a_parent_and_its_children_are_no_circle() {
    let findings = findings(&[
        ("lib.rs", "mod a;\n"),
        ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub struct A(B);\nfn f() { c::g() }\n"),
        ("a/b.rs", "pub struct B;\nfn f(_: super::A) {}\n"),
        ("a/c.rs", "use super::{A, B};\npub fn g() { let _: Option<(A, B)> = None; }\n"),
    ]);
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_circle_below_the_top_is_found() {
    let findings = findings(&[
        ("lib.rs", "mod a;\n"),
        ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\nuse c::C;\n"),
        ("a/b.rs", "pub struct B;\nfn f(_: super::C) {}\n"),
        ("a/c.rs", "pub struct C(crate::a::B);\n"),
    ]);
    let expected = format!("crates/x: circle a::b -> a::c (src/a/b.rs:2) -> a::b (src/a/c.rs:1): {ADVICE}");
    assert_eq!(findings, [expected]);
}

#[test]
fn test_code_may_look_anywhere() {
    let findings = findings(&[
        ("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod toy;\n"),
        ("a.rs", "use crate::b::B;\npub struct A(B);\n"),
        (
            "b.rs",
            "pub struct B;
            #[cfg(test)]
            use crate::a::A;
            impl B {
                #[cfg(test)]
                fn a(&self) -> crate::a::A { crate::a::A(B) }
            }
            #[cfg(test)]
            mod tests {
                use crate::a::A;
            }",
        ),
    ]);
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn paths_in_macros_and_attributes_count() {
    let a = ("a.rs", "pub struct A;\npub mod text {}\nfn f() { crate::b::g() }\n");
    for b in [
        "pub fn g() { println!(\"{}\", [crate::a::A][0]) }",
        "use crate::a;\npub fn g() { let _ = vec![a::A]; }",
        "macro_rules! make { () => { $crate::a::A } }\npub fn g() { make!() }",
        "#[derive(Deserialize)]\npub struct G { #[serde(with = \"super::a::text\")] a: u8 }\npub fn g() {}",
    ] {
        let findings = findings(&[("lib.rs", "mod a;\nmod b;\n"), a, ("b.rs", b)]);
        assert_eq!(findings.len(), 1, "{b}: {findings:?}");
    }
}

#[test]
fn documentation_and_other_crates_do_not_count() {
    let findings = findings(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a.rs", "pub struct A;\nfn f() { crate::b::g() }\n"),
        ("b.rs", "//! See [`crate::a::A`].\nuse ::a::A;\npub(in crate::b) fn g() { other::a::A.a() }\n"),
    ]);
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_glob_leads_to_what_is_used_of_it() {
    let findings = findings(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\nuse a::A;\nuse c::C;\n"),
        ("a.rs", "use super::*;\npub struct A;\nfn f(_: crate::b::B) {}\n"),
        ("b.rs", "use super::*;\npub struct B(A);\n"),
        ("c.rs", "pub struct C(crate::a::A);\n"),
    ]);
    assert_eq!(findings, [format!("crates/x: circle a -> b (src/a.rs:3) -> a (src/b.rs:2): {ADVICE}")]);
}

#[test]
fn a_shortest_circle_stands_for_all_that_hang_together() {
    let findings = findings(&[(
        "lib.rs",
        "mod a { use super::b::B; }
        mod b { pub struct B; use super::c::C; }
        mod c { pub struct C; use super::{a, d::D}; }
        mod d { pub struct D; use crate::c::C; }
        mod e { use crate::d::D; }",
    )]);
    let expected = format!(
        "crates/x: circle c -> d (src/lib.rs:3) -> c (src/lib.rs:4): {ADVICE}; in circles with these: a, b"
    );
    assert_eq!(findings, [expected]);
}

#[test]
fn a_module_and_a_function_of_one_name_are_both_found() {
    let findings = findings(&[
        ("lib.rs", "mod verify;\nmod row;\npub use verify::verify;\n"),
        ("verify.rs", "pub fn verify() { crate::row::row() }\n"),
        ("row.rs", "use crate::verify;\npub fn row() { verify() }\n"),
    ]);
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn exported_macros_are_found_at_the_root() {
    let findings = findings(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a.rs", "use crate::b::B;\n#[macro_export]\nmacro_rules! make { () => {} }\n"),
        ("b.rs", "pub struct B;\nfn f() { crate::make!() }\n"),
    ]);
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn imports_that_lead_to_themselves_come_to_an_end() {
    let findings = findings(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        (
            "a.rs",
            "macro_rules! m { () => {} }\npub(crate) use m;\npub use super::b::*;\npub use super::b::x;\n",
        ),
        ("b.rs", "pub use super::a::x;\nfn f() { super::a::m!() }\n"),
    ]);
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn a_source_that_cannot_be_read_is_a_finding() {
    let missing = findings(&[("lib.rs", "mod a;\n")]);
    assert!(missing[0].contains("there is no crates/x/src/a/mod.rs"), "{missing:?}");
    let broken = findings(&[("lib.rs", "mod a;\n"), ("a.rs", "struct A;\nfn {}\n")]);
    assert!(broken[0].contains("cannot parse crates/x/src/a.rs:2"), "{broken:?}");
}

use super::*;

/// The list of a crate `x` with these sources under `src/`.
fn list(sources: &[(&str, &str)]) -> Vec<String> {
    let text = |path: &Path| {
        let path = path.strip_prefix("crates/x/src").ok()?;
        sources.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
    };
    let listing = listing("x", Path::new("crates/x/src/lib.rs"), &text).unwrap();
    listing.lines.into_iter().map(|line| line.text).collect()
}

#[test]
fn what_a_private_module_has_is_told_by_the_path_that_others_use() {
    let list = list(&[
        ("lib.rs", "mod a;\npub mod b;\npub use a::{A, f as g};\nuse a::Own;\npub(crate) use a::Own as O;"),
        ("a.rs", "pub struct A;\npub fn f(\n    at: usize,\n    to: &[u8],\n) -> A { A }\npub struct Own;\n"),
        ("b.rs", "pub use crate::a::A;\npub const N: usize = 1;\npub type T<'a> = &'a A;\nfn own() {}\n"),
    ]);
    assert_eq!(
        list,
        [
            "pub struct x::A",
            "pub mod x::b",
            "pub use x::A as x::b::A",
            "pub const x::b::N: usize",
            "pub type x::b::T<'a> = &'a A",
            "pub fn x::g(at: usize, to: &[u8]) -> A",
        ]
    );
}

#[test]
fn a_module_and_a_function_of_one_name_are_not_taken_for_each_other() {
    let list = list(&[
        ("lib.rs", "mod compare;\npub use compare::{Agreement, compare};"),
        ("compare.rs", "pub struct Agreement;\npub fn compare() {}\n"),
    ]);
    assert_eq!(list, ["pub struct x::Agreement", "pub fn x::compare()"]);
}

#[test]
fn fields_and_variants_are_told_and_private_ones_are_counted_on_by_nobody() {
    let list = list(&[(
        "lib.rs",
        "pub struct Open { pub a: u8 }\n\
         pub struct Shut { /// Docs.\n #[serde(rename = \"c\")] pub b: Vec<\n    u8,\n>, d: u8 }\n\
         pub struct Pair(pub u8, u16);\n\
         #[non_exhaustive]\n#[must_use]\npub enum E { \
         /// One.\n One, Two(u8), Three { /// Field.\n at: u8 }, #[doc(hidden)] Four }\n",
    )]);
    assert_eq!(
        list,
        [
            "#[non_exhaustive] pub enum x::E",
            "x::E::One",
            "x::E::Three { at: u8 }",
            "x::E::Two(u8)",
            "pub struct x::Open",
            "pub x::Open::a: u8",
            "pub struct x::Pair(pub u8, _)",
            "pub struct x::Shut { .. }",
            "#[serde(rename = \"c\")] pub x::Shut::b: Vec<u8>",
        ]
    );
}

#[test]
fn what_a_trait_provides_is_told_apart_from_what_it_asks_for() {
    let list = list(&[(
        "lib.rs",
        "pub trait T: Send { type I: Copy; fn asked(&self); fn given(&mut self) -> u8 { 1 } }",
    )]);
    assert_eq!(
        list,
        [
            "pub trait x::T: Send",
            "type x::T::I: Copy",
            "fn x::T::asked(&self)",
            "fn x::T::given(&mut self) -> u8 { .. }",
        ]
    );
}

#[test]
fn implementations_are_told_where_others_can_name_all_that_is_in_their_head() {
    let list = list(&[
        ("lib.rs", "mod a;\nmod b;\npub use a::{A, T};"),
        (
            "a.rs",
            "#[derive(Clone)]\n#[cfg_attr(feature = \"f\", derive(Copy))]\npub struct A(u8);\n\
             pub(crate) struct Own;\npub trait T {}\n",
        ),
        (
            "b.rs",
            "use crate::A;\nuse super::a::{Own, T};\n\
             impl A { pub fn new() -> Self { A(1) } fn own(&self) {} }\n\
             #[cfg(unix)]\nimpl Iterator for A { type Item = u8; \
             fn next(&mut self) -> Option<u8> { None } }\n\
             impl From<A> for u8 { fn from(a: A) -> u8 { 1 } }\n\
             impl From<Own> for A { fn from(_: Own) -> A { A(1) } }\n\
             impl<U: T + ?Sized> T for Box<U> {}\n\
             impl T for Own {}\n\
             #[cfg(test)]\nimpl Drop for A { fn drop(&mut self) {} }\n",
        ),
    ]);
    assert_eq!(
        list,
        [
            "pub struct x::A(_)",
            "#[cfg(feature = \"f\")] impl Copy for x::A (derived)",
            "#[cfg(unix)] impl Iterator for x::A { type Item = u8 }",
            "impl Clone for x::A (derived)",
            "impl From<A> for u8",
            "pub fn x::A::new() -> Self",
            "pub trait x::T",
            "impl<U: T + ?Sized> T for Box<U>",
        ]
    );
}

#[test]
fn conditions_on_the_way_are_told() {
    let list = list(&[
        ("lib.rs", "#[cfg(feature = \"f\")]\npub mod a;\n#[cfg(unix)]\npub use a::f as g;"),
        (
            "a.rs",
            "pub fn f() {}\n#[cfg(unix)]\n#[macro_export]\n\
             macro_rules! m { ($a:expr) => {}; (@ own) => {}; }\n",
        ),
    ]);
    assert_eq!(
        list,
        [
            "#[cfg(feature = \"f\")] pub mod x::a",
            "#[cfg(feature = \"f\")] pub use x::g as x::a::f",
            "#[cfg(unix)] pub fn x::g()",
            "#[cfg(feature = \"f\")] #[cfg(unix)] macro x::m! ($a:expr)",
        ]
    );
}

#[test]
fn what_a_macro_makes_is_told_by_its_template_and_its_calls() {
    let list = list(&[(
        "lib.rs",
        "macro_rules! group { ($g:ident) => { impl $g { \
          #[must_use] pub fn new() -> Self { $g } fn own() {} } }; }\n\
         macro_rules! unused { () => { pub fn f() {} }; }\npub struct G;\ngroup!(G);\n",
    )]);
    assert_eq!(
        list,
        [
            "pub struct x::G",
            "called x::group! G",
            "made by x::group! impl $g",
            "made by x::group! pub fn new() -> Self"
        ]
    );
}

#[test]
fn what_another_crate_defines_is_told_by_its_path_there() {
    let text = |_: &Path| {
        Some(
            "pub use other::{A, b::C as D};\npub use other as o;\n#[doc(hidden)]\npub use hidden;".to_owned(),
        )
    };
    let listing = listing("x", Path::new("lib.rs"), &text).unwrap();
    let lines: Vec<_> = listing.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["pub use other::A as x::A", "pub use other::b::C as x::D", "pub use other as x::o"]);
    assert_eq!(listing.exported, BTreeSet::from(["other".to_owned()]));
}

#[test]
fn a_difference_names_the_lines_and_what_to_do() {
    let said = difference(Path::new("docs/api/x.txt"), "a\npub fn x::f()\n", "a\npub fn x::f(at: u8)\n");
    assert!(said.starts_with("docs/api/x.txt: the public interface is another:"), "{said}");
    assert!(said.contains("\n    - pub fn x::f()\n    + pub fn x::f(at: u8)\n"), "{said}");
    assert!(said.contains("`cargo xtask api`") && said.contains("CHANGELOG.md"), "{said}");
}

use super::*;
use crate::expectations::{
    ExpectationsError, FILE,
    package::{BROKEN, DECLARED, Package},
};
use lossproof_cases::{LARGEST, ReadError};
use std::fs;

const UNITS: &str = "units = [{ name = \"loss\" }]\n";

/// The fault in a file, its line, and what is said of it.
fn fault(package: &Package, text: &str) -> (ContentFault, usize, String) {
    package.write(text);
    let error = package.read().unwrap_err();
    let said = error.to_string();
    let ExpectationsError::Content { path, line, fault } = error else { panic!("{said}") };
    assert!(said.starts_with(&format!("{}:{line}: ", path.display())), "{said}");
    (*fault, line, said)
}

#[test]
fn a_file_that_is_not_there_expects_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Expectations::read(&folder.path().join(FILE)).unwrap().is_none());
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = Expectations::read(folder.path()).unwrap_err();
    assert!(matches!(error, ExpectationsError::Read(ReadError::Irregular { .. })), "{error}");
    assert!(error.to_string().contains(" is a folder and no regular file: "), "{error}");
    let path = folder.path().join(FILE);
    fs::File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
    let error = Expectations::read(&path).unwrap_err();
    assert!(matches!(error, ExpectationsError::Read(ReadError::TooLarge { .. })), "{error}");
    let error = Expectations::write(&path, &[]).unwrap_err();
    assert!(matches!(error, ExpectationsError::Read(ReadError::TooLarge { .. })), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_to_a_device_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let error = Expectations::read(&path).unwrap_err();
    assert!(error.to_string().contains("lossproof.toml is a device and no regular file"), "{error}");
}

#[test]
fn what_is_written_is_expected() {
    let package = Package::new();
    package.write(&format!(
        "[subject.mine]\ndecides = [\"sum\"]\n{DECLARED}reason = \"issue 7\"\ncase = \"{}\"\nerror = \"not finite\"\n\
         units = [{{ name = \"loss\", ratio = 2 }}, {{ name = \"fact\" }}]\n[subject.\"an other\"]\n",
        package.case
    ));
    let expectations = package.read().unwrap();
    let mine = expectations.of("mine").unwrap();
    assert!(mine.pins("sum") && !mine.pins("shift") && !mine.pins(BROKEN));
    let declared = mine.declared(BROKEN).unwrap();
    assert_eq!((declared.reason.as_str(), declared.error.as_deref()), ("issue 7", Some("not finite")));
    assert_eq!(
        declared.units,
        [
            ("fact".to_owned(), DeclaredUnit::default()),
            ("loss".to_owned(), DeclaredUnit { ratio: Some(2.0), deviation: None })
        ]
        .into()
    );
    assert_eq!(declared.file, Path::new(&package.case));
    assert_eq!(declared.case, CaseFile::read(&package.path(&package.case)).unwrap().case);
    assert!(mine.declared("sum").is_none());
    let other = expectations.of("an other").unwrap();
    assert!(!other.pins("sum") && other.declared(BROKEN).is_none());
    assert!(expectations.of("nobody").is_none());
}

#[test]
fn laws_must_exist_and_be_named_once() {
    let package = Package::new();
    let (found, line, _) = fault(&package, "[subject.mine]\ndecides = [\n  \"sum\",\n  \"sums\",\n]\n");
    assert!(matches!(found, ContentFault::UnknownLaw { law } if law == "sums"));
    assert_eq!(line, 4);
    let (found, line, _) = fault(&package, "[subject.mine]\ndecides = [\"sum\", \"sum\"]\n");
    assert!(matches!(found, ContentFault::PinnedTwice { law: "sum" }));
    assert_eq!(line, 2);
    let declared = format!("{DECLARED}reason = \"issue 7\"\ncase = \"{}\"\n{UNITS}", package.case);
    let (found, line, _) = fault(&package, &format!("{declared}{declared}"));
    assert!(matches!(found, ContentFault::DeclaredTwice { law: BROKEN }));
    assert_eq!(line, 7);
    let pinned = format!("[subject.mine]\ndecides = [\"{BROKEN}\"]\n{declared}");
    let (found, line, _) = fault(&package, &pinned);
    assert!(matches!(found, ContentFault::PinnedAndDeclared { law: BROKEN }));
    assert_eq!(line, 4);
    // Two subjects may say the same of one law.
    package.write(&format!("{declared}{}", declared.replace("mine", "yours")));
    assert!(package.read().is_ok());
}

#[test]
fn unknown_and_missing_keys_are_named() {
    let package = Package::new();
    for (text, at, what) in [
        ("[subject.mine]\ndecide = []\n", 2, "decide"),
        ("[subjects.mine]\n", 1, "subjects"),
        ("[[subject.mine.fails]]\nlaw = \"sum\"\nreason = \"issue 7\"\n", 1, "case"),
        ("[subject.mine]\ndecides = \"sum\"\n", 2, "sum"),
        ("[subject.mine]\n\ndecides = [", 3, ""),
    ] {
        let (found, line, said) = fault(&package, text);
        assert!(matches!(&found, ContentFault::Form(message) if message.contains(what)), "{said}");
        assert_eq!(line, at, "{said}");
    }
}

#[test]
fn every_failure_has_a_reason() {
    let package = Package::new();
    let case = format!("case = \"{}\"\n", package.case);
    for reason in ["", "  "] {
        let (found, line, _) = fault(&package, &format!("{DECLARED}reason = \"{reason}\"\n{case}"));
        assert!(matches!(found, ContentFault::NoReason { law: BROKEN }));
        assert_eq!(line, 3);
    }
    let drafted = format!("{DECLARED}reason = \"TODO: why?\"\n{case}");
    let (found, line, said) = fault(&package, &drafted);
    assert!(matches!(found, ContentFault::DraftedReason { law: BROKEN, .. }));
    assert!(line == 3 && said.contains("write a reason"), "{said}");
    assert!(Expectations::read_draft(&package.path(FILE)).is_ok());
    let (found, ..) = fault(&package, &format!("{DECLARED}reason = \"issue 7\"\n{case}error = \"\"\n"));
    assert!(matches!(found, ContentFault::NoError { law: BROKEN }));
}

#[test]
fn the_case_of_a_failure_can_be_replayed_anywhere() {
    let package = Package::new();
    let with = |case: &str| format!("{DECLARED}reason = \"issue 7\"\ncase = \"{case}\"\n{UNITS}");
    let (found, line, said) = fault(&package, &with("cases/none.json"));
    assert!(matches!(found, ContentFault::MissingCase { law: BROKEN, .. }));
    assert!(line == 4 && said.contains("none.json: restore"), "{said}");
    fs::write(package.path("damaged.json"), "{").unwrap();
    let (found, _, said) = fault(&package, &with("damaged.json"));
    assert!(matches!(found, ContentFault::Case { law: BROKEN, .. }));
    assert!(said.contains("damaged.json:1:1"), "{said}");
    let absolute = package.path(&package.case).display().to_string();
    let (found, ..) = fault(&package, &with(&absolute));
    assert!(matches!(found, ContentFault::AbsoluteCase { law: BROKEN }));
    let of_another = with(&package.case).replace("law = \"loss-scaling\"", "law = \"sum\"");
    let (found, line, _) = fault(&package, &of_another);
    assert!(matches!(found, ContentFault::CaseOfAnotherLaw { law: "sum", found, .. } if found == BROKEN));
    assert_eq!(line, 4);
}

#[test]
fn subjects_that_no_test_has_are_named_with_their_lines() {
    let package = Package::new();
    package.write("[subject.mine]\n\n[subject.old]\n");
    let expectations = package.read().unwrap();
    assert!(expectations.untested(&["old", "mine", "new"]).is_empty());
    let untested: Vec<_> = expectations.untested(&["mine"]).iter().map(ToString::to_string).collect();
    assert_eq!(untested.len(), 1);
    assert!(untested[0].contains("lossproof.toml:3: no test has a subject named \"old\""), "{untested:?}");
}

#[test]
fn a_broken_law_is_declared_with_what_of_it_is_broken() {
    let package = Package::new();
    let declared = format!("{DECLARED}reason = \"issue 7\"\ncase = \"{}\"\n", package.case);
    for (units, at) in [("", 2), ("units = []\n", 5)] {
        let (found, line, said) = fault(&package, &format!("{declared}{units}"));
        assert!(matches!(found, ContentFault::NoUnits { law: BROKEN }), "{said}");
        assert!(line == at && said.contains("LOSSPROOF_EXPECT=write"), "{said}");
        // The draft that names them reads the file before.
        assert!(Expectations::read_draft(&package.path(FILE)).is_ok());
    }
    // An error is what it says.
    package.write(&format!("{declared}error = \"panicked\"\n"));
    assert!(package.read().is_ok());
    let (found, line, said) = fault(&package, &format!("{declared}units = [\"loss\"]\n"));
    assert!(matches!(found, ContentFault::Form(_)) && line == 5, "{said}");
}

use super::*;
use crate::Scale;
use lossproof_spec::{GlobalBatch, LossSpec, Sequence};
use std::error::Error;

fn file(seed: u64) -> CaseFile {
    let sequence = Sequence::new(vec![5, 6, 7], vec![-100, 6, 7]).unwrap();
    let case = Case {
        batch: GlobalBatch::single(sequence),
        spec: LossSpec { z_loss: 1e-4, ..LossSpec::token_mean() },
        scale: Scale::Probe,
        upstream: vec![0.1, -2.0],
        seed,
    };
    CaseFile { law: "sum-is-additive".to_owned(), found: "it was 2 [not 1]".to_owned(), case }
}

/// The error that a file with `from` replaced by `to` is refused with, and what it says.
fn refused(from: &str, to: &str) -> (CaseFileError, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = file(0).write(directory.path()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    let error = CaseFile::of_law(directory.path(), "sum-is-additive").unwrap_err();
    let said = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
    assert!(said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
    (error, said)
}

#[test]
fn cases_come_back_as_they_were_and_in_a_stable_order() {
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<_> = [u64::MAX, 0, 1, 2].map(file).into();
    let mut written: Vec<_> =
        files.iter().map(|file| (file.write(directory.path()).unwrap(), file.clone())).collect();
    written.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(CaseFile::of_law(directory.path(), "sum-is-additive").unwrap(), written);
    assert!(CaseFile::of_law(directory.path(), "another-law").unwrap().is_empty());
}

#[test]
fn a_case_found_again_is_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let first = file(3).write(directory.path()).unwrap();
    let again = CaseFile { found: "it was 3".to_owned(), ..file(3) };
    assert_eq!(again.write(directory.path()).unwrap(), first);
    let directory = first.parent().unwrap();
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
    assert_eq!(CaseFile::read(&first).unwrap(), again);
}

#[cfg(unix)]
#[test]
fn a_case_file_can_be_read_by_others_as_any_new_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let any = directory.path().join("any");
    fs::write(&any, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&file(0).write(directory.path()).unwrap()), mode(&any));
}

#[test]
fn a_case_file_can_be_read_by_a_person() {
    insta::assert_snapshot!(pretty(&file(7)).unwrap(), @r#"
    {
      "law": "sum-is-additive",
      "found": "it was 2 [not 1]",
      "case": {
        "batch": [
          [
            [
              {
                "input_ids": [5, 6, 7],
                "labels": [-100, 6, 7],
                "segment_ids": [1, 1, 1],
                "position_ids": [0, 1, 2],
                "targets": [5, 6, 7]
              }
            ]
          ]
        ],
        "spec": {
          "reduction": "token-mean",
          "scope": "global",
          "micro_batches": "add",
          "ranks": "add",
          "empty": "zero-counted",
          "counting": "supervised",
          "label_smoothing": 0.0,
          "z_loss": 0.0001
        },
        "scale": "probe",
        "upstream": [0.1, -2.0],
        "seed": 7
      }
    }
    "#);
}

#[test]
fn damaged_files_are_refused_where_they_are_damaged() {
    let (_, cut) = refused("\"seed\": 0", "\"seed\":");
    assert!(cut.contains("expected value at line"), "{cut}");
    let (_, unknown) = refused("\"seed\": 0", "\"seed\": 0, \"speed\": 1");
    assert!(unknown.contains("unknown field `speed`"), "{unknown}");
    let (_, unknown) = refused("\"found\"", "\"remark\": 1, \"found\"");
    assert!(unknown.contains("unknown field `remark`"), "{unknown}");
    let (_, label) = refused("-100, 6, 7", "-100, -6, 7");
    assert!(label.contains("label -6 at position 1 is neither a token id nor the ignore index"), "{label}");
    let (_, upstream) = refused("[0.1, -2.0]", "[]");
    assert!(upstream.contains("`upstream` is empty: give at least one weight"), "{upstream}");
    let (_, smoothing) = refused("\"label_smoothing\": 0.0", "\"label_smoothing\": 1.0");
    assert!(smoothing.contains("label smoothing 1 is outside [0, 1)"), "{smoothing}");
    let (law, said) = refused("sum-is-additive", "sum-is-sum");
    assert!(matches!(law, CaseFileError::Law { .. }), "{said}");
}

#[test]
fn the_place_of_the_damage_is_named() {
    let (error, said) = refused("\"seed\": 0", "\"seed\": -1");
    let CaseFileError::Content { source, .. } = error else { panic!("{said}") };
    assert!(said.contains(&format!(".json:{}:{} ", source.line(), source.column())), "{said}");
    assert!(source.line() > 10, "{said}");
}

#[test]
fn a_token_the_subject_does_not_know_is_caught_by_its_limits() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(0).write(directory.path()).unwrap();
    let case = CaseFile::read(&path).unwrap().case;
    assert!(Limits::of_model(8, 16).check(&case.batch).is_ok());
    let error = Limits::of_model(7, 16).check(&case.batch).unwrap_err();
    assert!(matches!(error, SubjectError::Limit { what: "token id", position: 2, .. }), "{error}");
}

#[test]
fn a_law_cannot_write_outside_its_directory() {
    for law in ["", "..", "a/b", "/", "a\\b", "A"] {
        let error = CaseFile { law: law.to_owned(), ..file(0) }.write(Path::new("unused")).unwrap_err();
        assert!(matches!(error, CaseFileError::LawId(_)), "{error}");
    }
}

#[test]
fn a_case_in_memory_is_validated_as_one_in_a_file() {
    let valid = file(0).case;
    assert!(valid.validate().is_ok());
    let no_number = Case { upstream: vec![1.0, f64::NAN], ..valid.clone() };
    assert!(no_number.validate().unwrap_err().to_string().starts_with("upstream weight 1 is NaN"));
    let no_weight = CaseFile { case: Case { upstream: Vec::new(), ..valid }, ..file(0) };
    let error = no_weight.write(Path::new("unused")).unwrap_err();
    assert!(matches!(error, CaseFileError::Case(InvalidCase::NoUpstream)), "{error}");
}

#[test]
fn cases_outside_a_subjects_limits_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(0).write(directory.path()).unwrap();
    let kept = |vocabulary| {
        let limits = Limits::of_model(vocabulary, 16);
        CaseFile::of_law_within(directory.path(), "sum-is-additive", &limits).unwrap()
    };
    let wide = kept(8);
    assert_eq!(wide.taken, [(path.clone(), file(0))]);
    assert!(wide.refused.is_empty());
    let narrow = kept(7);
    assert!(narrow.taken.is_empty());
    let said = narrow.refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(said.contains(&path.display().to_string()) && said.contains("token id"), "{said}");
}

/// What is stale in `directory`, in words, with the directory itself left out.
fn stale(directory: &Path, laws: &[&str], vocabularies: &[usize]) -> Vec<String> {
    let limits: Vec<_> = vocabularies.iter().map(|&tokens| Limits::of_model(tokens, 16)).collect();
    let stale = CaseFile::stale(directory, laws, &limits).unwrap();
    let root = format!("{}/", directory.display());
    stale.iter().map(|file| file.to_string().replace(&root, "")).collect()
}

#[test]
fn cases_that_are_replayed_are_not_stale() {
    let directory = tempfile::tempdir().unwrap();
    assert!(stale(&directory.path().join("none"), &[], &[]).is_empty());
    file(0).write(directory.path()).unwrap();
    fs::write(directory.path().join("README.md"), "Cases that failed once.").unwrap();
    assert!(stale(directory.path(), &["sum-is-additive"], &[]).is_empty());
    // One subject that takes the case is enough.
    assert!(stale(directory.path(), &["sum-is-additive"], &[7, 8]).is_empty());
}

#[test]
fn the_cases_of_a_law_that_is_gone_are_stale_and_reported_once() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 0..3 {
        file(seed).write(directory.path()).unwrap();
    }
    let found = stale(directory.path(), &["ratios"], &[8]);
    assert_eq!(
        found,
        [
            "nothing replays the cases in sum-is-additive, because there is no law `sum-is-additive`: give the \
             folder, and `law` in its files, the law's new name, or delete it"
        ]
    );
}

#[test]
fn unreadable_and_misplaced_cases_are_stale() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(0).write(directory.path()).unwrap();
    let other = directory.path().join("ratios");
    fs::create_dir_all(other.join("old")).unwrap();
    fs::copy(&path, other.join("a.json")).unwrap();
    fs::copy(&path, other.join("old/b.json")).unwrap();
    fs::copy(&path, directory.path().join("c.json")).unwrap();
    fs::write(&path, "{").unwrap();
    let found = stale(directory.path(), &["ratios", "sum-is-additive"], &[]);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("nothing replays c.json, because it lies in no law's folder"), "{found:#?}");
    assert!(found[1].starts_with("ratios/a.json is a case of the law `sum-is-additive`"), "{found:#?}");
    assert!(found[2].starts_with("nothing replays ratios/old/b.json, because"), "{found:#?}");
    assert!(found[3].contains(":1:1 holds no valid case"), "{found:#?}");
}

#[test]
fn a_case_that_no_subject_takes_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    file(0).write(directory.path()).unwrap();
    let found = stale(directory.path(), &["sum-is-additive"], &[6, 7]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("no trainer of this test takes its batch"), "{found:#?}");
}

#[cfg(unix)]
mod odd_files {
    use super::*;
    use std::{os::unix::fs::symlink, process::Command};

    #[test]
    fn links_to_folders_are_named_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let law = file(0).write(directory.path()).unwrap().parent().unwrap().to_owned();
        // Followed, each would hold both, and each of those both again.
        symlink(".", law.join("l")).unwrap();
        symlink(".", law.join("m")).unwrap();
        symlink("sum-is-additive", directory.path().join("ratios")).unwrap();
        let found = stale(directory.path(), &["ratios", "sum-is-additive"], &[]);
        let links: Vec<_> = found.iter().map(|said| said.split(" is a link to a folder").next()).collect();
        assert_eq!(links, [Some("ratios"), Some("sum-is-additive/l"), Some("sum-is-additive/m")]);
        // What is not looked through for stale files is not replayed, and not written to.
        let error = CaseFile::of_law(directory.path(), "ratios").unwrap_err();
        assert!(matches!(error, CaseFileError::Linked { .. }), "{error}");
        let error = CaseFile { law: "ratios".to_owned(), ..file(1) }.write(directory.path()).unwrap_err();
        assert!(matches!(error, CaseFileError::Linked { .. }), "{error}");
        // The folder of all cases may be anywhere, and a file may be another's.
        let link = directory.path().join("all");
        symlink(directory.path(), &link).unwrap();
        assert_eq!(CaseFile::of_law(&link, "sum-is-additive").unwrap().len(), 1);
        let shared = CaseFile::of_law(directory.path(), "sum-is-additive").unwrap().remove(0);
        symlink(shared.0, law.join("shared.json")).unwrap();
        assert_eq!(CaseFile::of_law(directory.path(), "sum-is-additive").unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let law = file(0).write(directory.path()).unwrap().parent().unwrap().to_owned();
        let made = Command::new("mkfifo").arg(law.join("pipe.json")).status().unwrap();
        assert!(made.success());
        symlink("/dev/zero", law.join("zero.json")).unwrap();
        let found = stale(directory.path(), &["sum-is-additive"], &[]);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found[0].starts_with("sum-is-additive/pipe.json is a pipe and no regular file"),
            "{found:#?}"
        );
        assert!(
            found[1].starts_with("sum-is-additive/zero.json is a device and no regular file"),
            "{found:#?}"
        );
        let error = CaseFile::of_law(directory.path(), "sum-is-additive").unwrap_err();
        assert!(matches!(error, CaseFileError::Read(ReadError::Irregular { .. })), "{error}");
    }
}

#[test]
fn a_file_of_more_than_is_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(0).write(directory.path()).unwrap();
    let grow = |bytes| fs::File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
    grow(LARGEST + 1);
    let error = CaseFile::read(&path).unwrap_err();
    assert!(matches!(error, CaseFileError::Read(ReadError::TooLarge { .. })), "{error}");
    assert!(error.to_string().contains("more than 16 MiB"), "{error}");
    grow(LARGEST);
    assert!(matches!(CaseFile::read(&path).unwrap_err(), CaseFileError::Content { .. }));
}

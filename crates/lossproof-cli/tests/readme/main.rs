//! What README.md and the pages in docs/ show is what the commands print, and every command on them can be
//! given as it stands there.
#![cfg(feature = "trainers")]

mod commands;
mod pages;
mod shown;

use commands::arguments_of_lossproof;
use lossproof_laws::expectations::{Expectations, FILE};
use lossproof_spec::CLAUSES;
use pages::{Block, Page, pages, root};
use std::{collections::BTreeMap, fs, process::Command};

/// What marks name that this test keeps true.
const HERE: &str = "crates/lossproof-cli/tests/readme";

/// Runs the command; what it printed and its exit code.
fn lossproof(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_lossproof"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("the command runs");
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
}

fn page(path: &str) -> Page {
    pages().into_iter().find(|page| page.path == path).expect("the page")
}

/// A text as one line: prose wraps anywhere.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_block_is_what_its_command_prints() {
    let mut printed: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for page in pages() {
        let marked = |block: &&Block<'_>| block.mark.is_some_and(|mark| mark.keeper == HERE);
        for block in page.blocks().iter().filter(marked).filter(|block| block.language == "text") {
            let place = format!("{}:{}", page.path, block.line);
            let (command, lines) = block.lines.split_first().expect("a command in the first line");
            let command = command.strip_prefix("$ ").unwrap_or_else(|| panic!("{place}: no `$ ` in front"));
            let arguments =
                arguments_of_lossproof(command).unwrap_or_else(|| panic!("{place}: `{command}` is not ours"));
            let printed = printed.entry(arguments).or_insert_with_key(|arguments| {
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                let (printed, code) = lossproof(&arguments);
                // A fault that is shown is a violation that is found.
                let violated = arguments[0] == "tomography" && arguments.contains(&"--fault");
                assert_eq!(code, Some(i32::from(violated)), "{place}: {command}\n{printed}");
                printed
            });
            if let Err(difference) = shown::compare(lines, printed) {
                wrong.push(format!("{place}: {command}\n{difference}"));
            }
            compared += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(compared >= 6, "{compared} blocks were found: is the mark another one?");
}

#[test]
fn whoever_keeps_a_block_true_exists() {
    for page in pages() {
        for mark in page.marks() {
            assert!(root().join(mark.keeper).exists(), "{}: {} keeps {}", page.path, mark.keeper, mark.name);
        }
    }
}

#[test]
fn links_lead_to_files() {
    for page in pages() {
        for link in page.links() {
            assert!(page.folder().join(link).exists(), "{}: there is no {link}", page.path);
        }
    }
}

#[test]
fn the_expectations_on_the_page_can_be_read() {
    let page = page("docs/laws.md");
    let blocks = page.blocks();
    let block = blocks.iter().find(|block| block.mark.is_some_and(|mark| mark.name == "expectations"));
    let lines = &block.expect("the file").lines;
    let case =
        lines.iter().find_map(|line| line.strip_prefix("case = \"")?.strip_suffix('"')).expect("a case");

    let package = tempfile::tempdir().expect("a folder");
    let copy = package.path().join(case);
    fs::create_dir_all(copy.parent().expect("a folder")).expect("folders");
    fs::copy(root().join(case), copy).expect("the case");
    let path = package.path().join(FILE);
    fs::write(&path, lines.join("\n")).expect("the file");
    let expectations = Expectations::read(&path).expect("what is expected").expect("the file");
    let trainer = expectations.of("my trainer").expect("the trainer");
    assert!(trainer.pins("duplication") && trainer.pins("order-invariance") && !trainer.pins("loss-scaling"));
    assert!(trainer.declared("loss-scaling").is_some());
}

/// The first three cells of the table of findings in a page: number, package and defect.
fn findings(page: &Page) -> Vec<String> {
    let rows = page.text.lines().filter(|line| line.starts_with("| [W"));
    rows.map(|row| row.split(" | ").take(3).collect::<Vec<_>>().join(" | ").trim_end_matches(" |").to_owned())
        .collect()
}

#[test]
fn the_readme_lists_what_the_page_on_bugs_lists() {
    let listed = findings(&page("docs/bugs.md"));
    let here: Vec<_> = listed.iter().map(|row| row.replacen("](#", "](docs/bugs.md#", 1)).collect();
    assert_eq!(findings(&page("README.md")), here);
    assert!(here.len() >= 11);
}

#[test]
fn the_readme_counts_clauses_and_bugs_as_they_are() {
    let readme = unwrapped(&page("README.md").text);
    let holds = |sentence: String| assert!(readme.contains(&sentence), "the README does not say: {sentence}");

    holds(format!("execute the {} clauses", CLAUSES.len()));

    // The table is held to the command by tests/bugs.rs.
    let bugs = page("docs/bugs.md").text;
    let rows: Vec<_> = bugs.lines().filter(|line| line.starts_with("| `") && line.ends_with('|')).collect();
    let (_, rest) = bugs.split_once("killed by a MUST law: ").expect("how many are killed");
    let (killed, rest) = rest.split_once("; named first: ").expect("how many are named");
    let (named, _) = rest.split_once(" (").expect("how many are named");
    let catalogue: Vec<_> = rows.iter().filter(|row| row.matches(" | ").count() == 10).collect();
    let all = catalogue.len();
    let seen = catalogue.iter().filter(|row| !row.contains("no shipped instance known")).count();
    assert_eq!(killed, format!("{all} of {all}"), "the README says that all are killed");
    let made = all - seen;
    holds(format!("{all} bugs, {seen} of them seen in real trainers and {made} that are as easily made"));
    holds(format!("{named} are named first. This is an in-sample number"));
}

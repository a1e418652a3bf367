//! Every command on the pages can be given as it is printed.
//!
//! Quick ones are run. Of the others it is held that they parse, and that the tasks, packages, programs,
//! tests and features that they name exist.

use super::{lossproof, pages::Page, pages::pages, pages::root};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    env,
    process::{Command, Output},
};

/// Subcommands of cargo that the pages speak of and that are not this repository's.
const OTHERS: [&str; 5] = ["clippy", "deny", "insta", "metadata", "nextest"];

/// Random cases for each law, where a command that tries laws is run.
const CASES: &str = "2";

/// A command and where it stands.
struct Printed {
    place: String,
    command: String,
}

/// The commands in blocks of shell, after `$ ` in blocks of text, in indented code, and in code within prose.
fn printed(page: &Page) -> Vec<Printed> {
    let mut all = Vec::new();
    let mut add = |line: usize, command: &str| {
        let command = command.split(" #").next().unwrap_or_default().trim();
        if !command.is_empty() && !command.starts_with('#') {
            all.push(Printed { place: format!("{}:{line}", page.path), command: command.to_owned() });
        }
    };
    let ours = |code: &str| code.starts_with("cargo ") || code.starts_with("lossproof ");
    for block in page.blocks() {
        for (index, line) in block.lines.iter().enumerate() {
            let line_number = block.line + 1 + index;
            match (block.language, line.strip_prefix("$ ")) {
                ("sh", _) => add(line_number, line),
                ("text", Some(command)) => add(line_number, command),
                _ => {}
            }
        }
    }
    for (first, lines) in page.paragraphs() {
        let indented = |line: &&&str| line.starts_with("    ") && ours(line.trim_start());
        for line in lines.iter().filter(indented) {
            add(first, line.trim_start());
        }
        // Code in prose goes on in the next line.
        let prose = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        for code in prose.split('`').skip(1).step_by(2).filter(|code| ours(code)) {
            add(first, code);
        }
    }
    all
}

/// The arguments for `lossproof` of a command that runs it, whichever way.
pub(crate) fn arguments_of_lossproof(command: &str) -> Option<Vec<String>> {
    let words: Vec<_> = command.split_whitespace().collect();
    let arguments = match words[..] {
        ["lossproof", ref arguments @ ..]
        | ["cargo", "run", "--", ref arguments @ ..]
        | ["cargo", "run", "--features", _, "--", ref arguments @ ..] => arguments.to_vec(),
        ["cargo", "xtask", "verify", ref arguments @ ..] => [&["verify"], arguments].concat(),
        _ => return None,
    };
    Some(arguments.into_iter().map(str::to_owned).collect())
}

/// What the workspace has that commands can name.
struct Workspace {
    /// `cargo metadata`.
    metadata: Value,
    /// Of `cargo xtask`.
    tasks: BTreeSet<String>,
}

fn cargo(arguments: &[&str]) -> Output {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs")
}

fn metadata() -> Value {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Workspace {
    fn read() -> Self {
        let help = cargo(&["xtask", "help"]);
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let tasks = help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
        Self { metadata: metadata(), tasks: tasks.map(str::to_owned).collect() }
    }

    /// The packages a plain `cargo run` and `cargo test` select, or the one of that name.
    fn packages(&self, name: Option<&str>) -> Vec<&Value> {
        let default = list(&self.metadata["workspace_default_members"]);
        let selected = |package: &&Value| match name {
            Some(name) => text(package, "name") == name,
            None => default.contains(&package["id"]),
        };
        list(&self.metadata["packages"]).iter().filter(selected).collect()
    }

    /// Names of the targets of a kind (`bin`, `test`, `bench`, `example`) in packages.
    fn targets(&self, package: Option<&str>, kind: &str) -> Vec<&str> {
        let targets = self.packages(package).into_iter().flat_map(|package| list(&package["targets"]));
        let of_kind = targets.filter(|target| list(&target["kind"]).iter().any(|k| k == kind));
        of_kind.map(|target| text(target, "name")).collect()
    }

    /// What is wrong with a command, if anything is.
    fn check(&self, command: &str) -> Result<(), String> {
        // An adapter is a command in a command: whoever reads the page has one of their own.
        let command =
            &match command.split_once("--adapter \"").map(|(before, rest)| (before, rest.split_once('"'))) {
                Some((before, Some((_, behind)))) => format!("{before}--adapter ADAPTER{behind}"),
                _ => command.to_owned(),
            };
        if command.contains(['"', '\'', '|', '&', ';', '>', '$']) {
            return Err("it needs a shell".to_owned());
        }
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["cargo", "xtask", task, ref arguments @ ..] => self.task(task, arguments)?,
            ["cargo", "run", ref options @ ..] => self.program(options)?,
            ["cargo", subcommand @ ("test" | "bench"), ref options @ ..] => {
                self.select(subcommand, options)?;
            }
            ["cargo", "build", "-p", package, "--no-default-features"] => {
                if self.packages(Some(package)).is_empty() {
                    return Err(format!("there is no package {package}"));
                }
            }
            ["cargo", subcommand, ..] if OTHERS.contains(&subcommand) => {}
            ["lossproof", ..] => {}
            _ => return Err("nobody here knows it".to_owned()),
        }
        arguments_of_lossproof(command).map_or(Ok(()), |arguments| parses_or_runs(&arguments))
    }

    /// `cargo xtask TASK ARGUMENTS`.
    fn task(&self, task: &str, arguments: &[&str]) -> Result<(), String> {
        if !self.tasks.contains(task) {
            return Err(format!("`cargo xtask help` does not list {task}, but {:?}", self.tasks));
        }
        match task {
            // Its arguments are the product's.
            "verify" => Ok(()),
            "test" => self.select("test", arguments),
            _ => {
                let output = cargo(&[&["xtask", task], arguments, &["--help"]].concat());
                let stderr = String::from_utf8_lossy(&output.stderr);
                if output.status.success() { Ok(()) } else { Err(stderr.into_owned()) }
            }
        }
    }

    /// `cargo run OPTIONS`: the product, or an example of a package.
    fn program(&self, options: &[&str]) -> Result<(), String> {
        match options {
            [] | ["--", ..] => Ok(()),
            ["--features", feature, "--", ..] => {
                let features = &self.packages(Some("lossproof-cli"))[0]["features"];
                features.get(feature).map(|_| ()).ok_or_else(|| format!("there is no feature {feature}"))
            }
            ["-p", package, "--example", example, rest @ ..] if rest.first().is_none_or(|r| *r == "--") => {
                let examples = self.targets(Some(package), "example");
                let found = examples.contains(example);
                found.then_some(()).ok_or_else(|| format!("{package} has the examples {examples:?}"))
            }
            _ => Err("nobody here knows these options".to_owned()),
        }
    }

    /// `cargo test OPTIONS` and `cargo bench OPTIONS`.
    fn select(&self, subcommand: &str, options: &[&str]) -> Result<(), String> {
        match options {
            [] | ["--", ..] => Ok(()),
            ["-p", package, rest @ ..] if rest.first().is_none_or(|r| *r == "--") => {
                let found = !self.targets(Some(package), subcommand).is_empty();
                found.then_some(()).ok_or_else(|| format!("{package} has no {subcommand}"))
            }
            ["--test", test, rest @ ..] if rest.first().is_none_or(|r| *r == "--") => {
                let found = self.targets(None, "test").contains(test);
                found.then_some(()).ok_or_else(|| format!("there is no test {test}"))
            }
            _ => Err("nobody here knows these options".to_owned()),
        }
    }
}

/// Runs `lossproof` where that takes seconds, the laws on a few cases of a small model; otherwise only has the
/// arguments parsed.
fn parses_or_runs(arguments: &[String]) -> Result<(), String> {
    let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let given = |option: &str| arguments.contains(&option);
    let (arguments, allowed): (Vec<_>, &[i32]) = match arguments.first() {
        _ if given("--adapter") => {
            arguments.push("--help");
            (arguments, &[0])
        }
        // 3: that few cases leave some laws unchecked.
        Some(&"laws") if !given("--device") && !given("--json") && !given("gpt2-small") => {
            if !given("--cases") {
                arguments.extend(["--cases", CASES]);
            }
            (arguments, &[0, 3])
        }
        Some(&"explain") if arguments.len() > 1 && !given("--svg") => (arguments, &[0]),
        Some(&"faults") if given("--fault") => (arguments, &[0]),
        // femto-gpt is there with its feature only.
        Some(&"tomography") if given("femto-gpt") => return Ok(()),
        Some(&"tomography") if given("--fault") && !given("--svg") => (arguments, &[1]),
        Some(&"tomography") if !given("--svg") => (arguments, &[0]),
        // Clap looks at every argument that comes before it.
        _ => {
            arguments.push("--help");
            (arguments, &[0])
        }
    };
    let (printed, code) = lossproof(&arguments);
    let fine = code.is_some_and(|code| allowed.contains(&code));
    if fine {
        Ok(())
    } else {
        Err(format!("`lossproof {}` ends with {code:?}\n{printed}", arguments.join(" ")))
    }
}

#[test]
#[ignore = "thorough: five minutes, for when a command or a page changes"]
fn every_command_can_be_given_as_it_is_printed() {
    let workspace = Workspace::read();
    let (mut checked, mut wrong) = (BTreeSet::new(), Vec::new());
    for page in pages() {
        for Printed { place, command } in printed(&page) {
            if checked.contains(&command) {
                continue;
            }
            if let Err(what) = workspace.check(&command) {
                wrong.push(format!("{place}: `{command}`: {what}"));
            }
            checked.insert(command);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked.len() > 15, "only these were found: {checked:#?}");
}

/// Otherwise `cargo run -- explain` ends with "could not determine which binary to run".
#[test]
fn there_is_one_program_for_cargo_run_to_choose() {
    let workspace = Workspace { metadata: metadata(), tasks: BTreeSet::new() };
    assert_eq!(workspace.targets(None, "bin"), ["lossproof"]);
}

#[test]
fn a_command_that_cannot_be_given_is_found() {
    let workspace = Workspace::read();
    for (command, told) in [
        ("cargo run -- explain --sequences 8192 --length 64", None),
        ("cargo run -- explain --sequences 8192", Some("ends with Some(2)")),
        ("cargo run -- verify --config gpt2-nano", None),
        ("cargo run -- verify --config gpt2-tiny", Some("ends with Some(2)")),
        ("lossproof verify --colour red", Some("ends with Some(2)")),
        ("cargo run -- laws --law no-such-law", Some("ends with Some(2)")),
        ("cargo run --features cuda -- verify --device cuda", None),
        ("cargo run --features warp -- verify", Some("no feature warp")),
        ("cargo run -p lossproof-benches --example no-such-example", Some("has the examples")),
        ("cargo xtask verify --config gpt2-small", None),
        ("cargo xtask verify --config gpt2-tiny", Some("ends with Some(2)")),
        ("cargo xtask polish", Some("does not list polish")),
        ("cargo xtask cuda --compute-cap 8.0", None),
        ("cargo xtask cuda --compute-cap many", Some("many")),
        ("cargo test --test conformance -- shift", None),
        ("cargo test --test nonconformance", Some("no test nonconformance")),
        ("cargo bench -p lossproof-spec", Some("has no bench")),
        ("cargo frobnicate", Some("nobody here knows it")),
        ("cargo run -- explain | head", Some("a shell")),
    ] {
        match (workspace.check(command), told) {
            (Ok(()), None) => {}
            (Err(what), Some(told)) if what.contains(told) => {}
            (found, _) => panic!("{command}: {found:?}"),
        }
    }
}

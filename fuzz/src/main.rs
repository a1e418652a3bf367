//! Feeds every reader with changed inputs, each in a process of its own, and prints what became of them as a
//! table.

use clap::Parser;
use lossproof_fuzz::{Entry, Feeder, READERS, Tally, named};
use std::{
    env,
    error::Error,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

#[derive(Parser)]
#[command(name = "lossproof-fuzz", about)]
struct Args {
    /// Inputs for each reader.
    #[arg(long, default_value_t = 1_000_000)]
    inputs: u64,
    /// Fixes the inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Readers, by their names; all without.
    #[arg(long = "reader", value_name = "NAME")]
    readers: Vec<String>,
    /// Where the first input of each kind of finding is put.
    #[arg(long, value_name = "FOLDER", default_value = "target/fuzz")]
    findings: PathBuf,
    /// Reads this one reader's inputs in this process.
    #[arg(long, value_name = "NAME", hide = true)]
    alone: Option<String>,
    /// Reads this file with the readers that are named, and says what became of it: an input that was found.
    #[arg(long, value_name = "FILE", requires = "readers")]
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match (&args.alone, &args.file) {
        (Some(name), _) => alone(name, &args),
        (None, Some(file)) => once(file, &args.readers),
        (None, None) => all(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The file in which a process keeps the number of the input that it reads, for whoever finds it dead.
fn place(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.number"))
}

/// One reader, in this process: prints the cells of its line.
#[expect(clippy::print_stdout, reason = "the line is what this prints")]
fn alone(name: &str, args: &Args) -> Result<bool, Box<dyn Error>> {
    let entry = named(name).ok_or_else(|| format!("there is no reader `{name}`"))?;
    let reader = (entry.make)()?;
    let feeder = Feeder::new(&reader);
    let place = fs::File::create(place(&args.findings, name))?;
    // A number that cannot be kept is missed only where the process dies.
    let keep = |number: u64| drop(place.write_at(&number.to_le_bytes(), 0));
    let tally = Tally::of(&feeder, args.inputs, args.seed, keep);
    println!("{} + 64 KiB | {}", reader.multiple, tally.cells());
    for (number, bytes, finding) in &tally.first {
        let file = args.findings.join(format!("{name}-{number}"));
        fs::write(&file, bytes)?;
        eprintln!("{name}, input {number} ({}): {finding:?}", file.display());
    }
    Ok(tally.is_clean())
}

/// One file, with these readers.
#[expect(clippy::print_stdout, reason = "what became of it is what this prints")]
fn once(file: &Path, readers: &[String]) -> Result<bool, Box<dyn Error>> {
    let bytes = fs::read(file)?;
    let mut clean = true;
    for name in readers {
        let entry = named(name).ok_or_else(|| format!("there is no reader `{name}`"))?;
        let reader = (entry.make)()?;
        let fed = Feeder::new(&reader).feed(&bytes);
        clean &= fed.finding.is_none();
        println!("{name}: {fed:?}");
    }
    Ok(clean)
}

/// Every reader, each in a process of its own, since memory that runs out or a stack that overflows ends one.
#[expect(clippy::print_stdout, reason = "the table is what this prints")]
fn all(args: &Args) -> Result<bool, Box<dyn Error>> {
    fs::create_dir_all(&args.findings)?;
    println!("{HEAD}");
    let mut clean = true;
    for Entry { name, reads, call, .. } in READERS {
        if !args.readers.is_empty() && !args.readers.iter().any(|asked| asked == name) {
            continue;
        }
        let mut child = Command::new(env::current_exe()?);
        child.args(["--alone", name, "--inputs", &args.inputs.to_string(), "--seed", &args.seed.to_string()]);
        let output = child.arg("--findings").arg(&args.findings).stderr(Stdio::inherit()).output()?;
        let cells = String::from_utf8_lossy(&output.stdout);
        println!("| {reads} (`{call}`) | {} |", cells.trim());
        clean &= output.status.success();
        if output.status.code().is_none() {
            let number = fs::read(place(&args.findings, name))?;
            let number = number.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            eprintln!("{name}, input {number}: the process died ({})", output.status);
        }
    }
    Ok(clean)
}

/// The head of the table.
const HEAD: &str = "\
| reader | may take, for each byte | inputs | read | refused | panics | errors that are none \
| beyond memory | took, for each byte |
|---|---|---|---|---|---|---|---|---|";

//! Writes one page with every kind of part on it, to be looked at: `cargo run --example page -- FILE`.

mod sample;

use std::{env, fs, process::ExitCode};

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!(
            "error: no file is named\nhelp: cargo run -p lossproof-report --example page -- target/page.html"
        );
        return ExitCode::FAILURE;
    };
    match fs::write(&path, lossproof_report::html(&sample::report())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "error: cannot write {}: {error}\nhelp: name a file in a folder that is there",
                path.display()
            );
            ExitCode::FAILURE
        }
    }
}

//! Measures the ratios in `docs/performance.md` and prints the page, or with `--write` replaces it; with `--only`, one
//! part of it.
//!
//! Everything that is compared runs alternately in one process, so that what else the machine does hits both sides, and
//! medians are taken. Only ratios are worth keeping: the absolute times are those of one machine on one day.

mod build;
mod check;
mod laws;
mod measured;
mod memory;
mod page;
mod step;

use clap::{Parser, ValueEnum};
use std::{
    error::Error,
    fs,
    io::{Write as _, stdout},
    path::Path,
};

/// Measures what docs/performance.md says.
#[derive(Parser)]
struct Args {
    /// Measure this part alone.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Write what was measured into docs/performance.md; other parts stay as they are.
    #[arg(long)]
    write: bool,
    /// Say what a step of this trainer takes at most, in MiB, and nothing else.
    #[arg(long, hide = true)]
    peak_of: Option<memory::Trainer>,
    #[arg(long, hide = true, default_value_t = 1)]
    sequences: u32,
    #[arg(long, hide = true, default_value_t = 2)]
    length: u32,
}

/// A part of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A step of the reference beside one of libtorch.
    Step,
    /// The memory of one of each.
    Memory,
    /// A gradient check beside PyTorch's.
    Check,
    /// What each law costs.
    Laws,
    /// What is built from nothing. It takes minutes.
    Build,
}

impl Part {
    fn section(self) -> Result<String, Box<dyn Error>> {
        match self {
            Self::Step => step::section(),
            Self::Memory => memory::section(),
            Self::Check => check::section(),
            Self::Laws => laws::section(),
            Self::Build => build::section(),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if let Some(trainer) = args.peak_of {
        return Ok(writeln!(stdout(), "{}", memory::peak(trainer, args.sequences, args.length)?)?);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    let text = match args.only {
        None => {
            let mut text = page::head()?;
            for &part in Part::value_variants() {
                text += &part.section()?;
            }
            text
        }
        Some(part) => {
            let section = page::alone(&part.section()?, part)?;
            if args.write { page::with(&fs::read_to_string(&path)?, &section) } else { section }
        }
    };
    if args.write {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
    }
    stdout().write_all(text.as_bytes())?;
    Ok(())
}

//! The page that parts are written into.

use crate::Part;
use clap::ValueEnum as _;
use std::{error::Error, fs};

/// Where a part begins.
const HEADING: &str = "\n## ";

/// What stands above all parts.
pub(crate) fn head() -> Result<String, Box<dyn Error>> {
    Ok(format!(
        "# Performance\n\nMeasured by one run of `cargo run -p lossproof-benches --example performance -- \
         --write`, which wrote this\npage: {}, version {}. Each ratio is of medians of alternating runs in one \
         process; absolute times are\nthere to give an idea.\n",
        machine()?,
        env!("CARGO_PKG_VERSION"),
    ))
}

fn machine() -> Result<String, Box<dyn Error>> {
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
        Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
    });
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{}, {cores} cores", processor.as_deref().unwrap_or("a processor without a name")))
}

/// A part that says that it was measured by itself.
pub(crate) fn alone(section: &str, part: Part) -> Result<String, Box<dyn Error>> {
    let name = part.to_possible_value().ok_or("a part without a name")?;
    let (name, machine) = (name.get_name(), machine()?);
    Ok(format!("{section}\nThis part was measured by itself, with `--only {name}`: {machine}.\n"))
}

/// The page with a part in the place of that with the same heading, or at its end.
pub(crate) fn with(page: &str, section: &str) -> String {
    let heading = |text: &str| text.trim_start().lines().next().unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.get(1..).and_then(|rest| rest.find(HEADING)) {
        let (part, later) = rest.split_at(at + 1);
        parts.push(part);
        rest = later;
    }
    parts.push(rest);
    match parts.iter_mut().find(|part| heading(part) == heading(section)) {
        Some(part) => *part = section,
        None => parts.push(section),
    }
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_the_place_of_that_with_its_heading() {
        let page = "# Page\n\nHead.\n\n## A\n\none\n\n## B\n\ntwo\n";
        assert_eq!(with(page, "\n## A\n\nnew\n"), "# Page\n\nHead.\n\n## A\n\nnew\n\n## B\n\ntwo\n");
        assert_eq!(with(page, "\n## B\n\nnew\n"), "# Page\n\nHead.\n\n## A\n\none\n\n## B\n\nnew\n");
        assert_eq!(with(page, "\n## C\n\nnew\n"), format!("{page}\n## C\n\nnew\n"));
    }
}

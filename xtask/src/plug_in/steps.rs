//! What a page says to do: its fenced blocks with a mark in front of them.

/// What a mark ends with that this task reads.
const KEEPER: &str = ": kept true by xtask/src/plug_in -->";

/// A step, and the line of the page that its block begins in.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) action: Action,
}

/// What is done.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// `write FILE`: the block is the file.
    Write { file: String, text: String },
    /// `append FILE`: the block comes to its end.
    Append { file: String, text: String },
    /// `insert FILE`: the block comes before the line with [`PLACE`].
    Insert { file: String, text: String },
    /// `replace FILE`: the block is put in the place of the item that begins as it does.
    Replace { file: String, text: String },
    /// `run`: a command behind `$ `, and the lines that it shows.
    Run { command: String, shows: Vec<String> },
}

/// The comment that marks where lines are inserted.
pub(super) const PLACE: &str = "// What else the trainer can do comes here.";

/// The steps of a page, in their order.
///
/// # Errors
/// A mark that says nothing, or a block that has no end or no command.
pub(super) fn steps(page: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut lines = page.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some(mark) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(KEEPER)) else {
            continue;
        };
        let Some((_, begin)) = lines.next().filter(|(fence, _)| fence.starts_with("```")) else {
            return Err(format!("line {number}: there is no block behind this mark"));
        };
        let mut block = Vec::new();
        loop {
            let (line, _) = lines.next().ok_or_else(|| format!("line {begin}: the block has no end"))?;
            if line == "```" {
                break;
            }
            block.push(line);
        }
        steps.extend(of_block(mark, &block, begin)?);
    }
    Ok(steps)
}

fn of_block(mark: &str, block: &[&str], line: usize) -> Result<Vec<Step>, String> {
    let text = block.iter().flat_map(|line| [line, "\n"]).collect::<String>();
    let step = |action: Action| vec![Step { line, action }];
    let (kind, file) = mark.split_once(' ').unwrap_or((mark, ""));
    let file = file.to_owned();
    Ok(match kind {
        "write" => step(Action::Write { file, text }),
        "append" => step(Action::Append { file, text }),
        "insert" => step(Action::Insert { file, text }),
        "replace" => step(Action::Replace { file, text }),
        "run" => return commands(block, line),
        other => return Err(format!("line {line}: `{other}` is nothing that is done with a block")),
    })
}

/// A command a line that begins with `$ `; what it shows follows.
fn commands(block: &[&str], begin: usize) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for (text, line) in block.iter().zip(begin + 1..) {
        if let Some(command) = text.strip_prefix("$ ") {
            let action = Action::Run { command: command.to_owned(), shows: Vec::new() };
            steps.push(Step { line, action });
        } else if let Some(Step { action: Action::Run { shows, .. }, .. }) = steps.last_mut() {
            shows.push((*text).to_owned());
        } else {
            return Err(format!("line {line}: no command with `$ ` in front of what is shown"));
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_blocks_are_steps_and_others_are_not() {
        let page = "# x\n```rust\nnot followed\n```\n\
                    <!-- append a/b.rs: kept true by xtask/src/plug_in -->\n```rust\nx\n\ny\n```\n\
                    <!-- run: kept true by xtask/src/plug_in -->\n```console\n$ one\n1\n…\n$ two\n```\n";
        let run = |command: &str, shows: &[&str]| Action::Run {
            command: command.to_owned(),
            shows: shows.iter().map(|&line| line.to_owned()).collect(),
        };
        let append = Action::Append { file: "a/b.rs".to_owned(), text: "x\n\ny\n".to_owned() };
        let expected = [
            Step { line: 6, action: append },
            Step { line: 13, action: run("one", &["1", "…"]) },
            Step { line: 16, action: run("two", &[]) },
        ];
        assert_eq!(steps(page).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_followed_is_named_with_its_line() {
        let mark = |what: &str| format!("<!-- {what}{KEEPER}\n");
        for (page, expected) in [
            (mark("run"), "line 1: there is no block"),
            (mark("run") + "```\n$ x\n", "line 2: the block has no end"),
            (mark("run") + "```\nx\n```\n", "line 3: no command"),
            (mark("paint x") + "```\nx\n```\n", "line 2: `paint` is nothing"),
        ] {
            let error = steps(&page).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

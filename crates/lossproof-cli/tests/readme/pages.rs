//! Markdown, as far as the test reads it: fenced blocks, marks before them, code in prose, links.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A page of the documentation.
pub(crate) struct Page {
    /// Relative to the folder of the workspace.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block<'a> {
    /// What follows the fence, up to the first comma.
    pub(crate) language: &'a str,
    /// The line of the fence, from 1.
    pub(crate) line: usize,
    /// The mark in front of it.
    pub(crate) mark: Option<Mark<'a>>,
    pub(crate) lines: Vec<&'a str>,
}

/// `<!-- NAME: kept true by KEEPER -->`.
#[derive(Clone, Copy)]
pub(crate) struct Mark<'a> {
    pub(crate) name: &'a str,
    /// The test that holds the block to what is computed.
    pub(crate) keeper: &'a str,
}

impl<'a> Mark<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, keeper) = line.strip_prefix("<!-- ")?.split_once(": kept true by ")?;
        Some(Self { name, keeper: keeper.split([',', ' ']).next()? })
    }
}

/// README.md, CHANGELOG.md and every page in docs/.
pub(crate) fn pages() -> Vec<Page> {
    let mut paths = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).expect("the folder docs") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            paths.push(format!("docs/{name}"));
        }
    }
    paths[2..].sort();
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).expect("a page");
        Page { path, text }
    };
    paths.into_iter().map(read).collect()
}

impl Page {
    /// Where its links start from.
    pub(crate) fn folder(&self) -> PathBuf {
        root().join(&self.path).parent().expect("a folder").to_owned()
    }

    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut open: Option<Block<'_>> = None;
        let mut mark = None;
        for (index, line) in self.text.lines().enumerate() {
            let trimmed = line.trim_start();
            if let Some(info) = trimmed.strip_prefix("```") {
                if let Some(block) = open.take() {
                    blocks.push(block);
                } else {
                    let language = info.split(',').next().unwrap_or_default();
                    open = Some(Block { language, line: index + 1, mark: mark.take(), lines: Vec::new() });
                }
            } else if let Some(block) = &mut open {
                block.lines.push(line);
            } else if !trimmed.is_empty() {
                mark = Mark::parse(trimmed);
            }
        }
        assert!(open.is_none(), "{}: a block has no end", self.path);
        blocks
    }

    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark<'_>> {
        self.text.lines().filter_map(|line| Mark::parse(line.trim_start()))
    }

    /// Paragraphs, tables and indented code, each with the line it begins in, from 1: all that is not fenced.
    pub(crate) fn paragraphs(&self) -> Vec<(usize, Vec<&str>)> {
        let mut paragraphs: Vec<(usize, Vec<&str>)> = Vec::new();
        let (mut fenced, mut between) = (false, true);
        for (index, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                between = true;
            } else if fenced || line.trim().is_empty() {
                between = true;
            } else if between {
                paragraphs.push((index + 1, vec![line]));
                between = false;
            } else if let Some((_, lines)) = paragraphs.last_mut() {
                lines.push(line);
            }
        }
        paragraphs
    }

    /// Targets of links into the repository, without the place in the page.
    pub(crate) fn links(&self) -> Vec<&str> {
        let mut links = Vec::new();
        for (_, lines) in self.paragraphs() {
            for line in lines.iter().filter(|line| !line.starts_with("    ")) {
                for rest in line.split("](").skip(1) {
                    let target = rest.split([')', '#']).next().unwrap_or_default();
                    if !target.is_empty() && !target.contains("://") {
                        links.push(target);
                    }
                }
            }
        }
        links
    }
}

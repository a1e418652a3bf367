//! The text that a batch or a run is made of.

use miette::Diagnostic;
use std::path::{Path, PathBuf};

/// The vocabulary of GPT-2's byte-pair encoding, and that of bytes with an end-of-text token.
const BPE_VOCABULARY: usize = 50257;
const BYTE_VOCABULARY: usize = 257;

/// The text that is shipped: the first two chapters of "Alice's Adventures in Wonderland".
const SHIPPED: &str = include_str!("../shipped/alice.txt");

/// A text and where it came from.
pub(crate) struct SourceText {
    pub(crate) name: String,
    content: Vec<u8>,
}

impl SourceText {
    /// The text in a file, or the shipped one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, SourceTextError> {
        match path {
            None => Ok(Self { name: "the shipped text".to_owned(), content: SHIPPED.as_bytes().to_vec() }),
            Some(path) => {
                let content = std::fs::read(path)
                    .map_err(|source| SourceTextError::Read { path: path.to_owned(), source })?;
                Ok(Self { name: path.display().to_string(), content })
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn of(content: &[u8]) -> Self {
        Self { name: "test".to_owned(), content: content.to_vec() }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.content
    }

    /// Its first so many bytes.
    pub(crate) fn cut(mut self, bytes: Option<usize>) -> Self {
        self.content.truncate(bytes.unwrap_or(usize::MAX));
        self
    }

    /// Tokens as the model with this vocabulary reads them: GPT-2's byte-pair encoding, bytes, or bytes folded into a
    /// smaller vocabulary.
    pub(crate) fn tokens(&self, vocabulary: usize) -> Result<Vec<u32>, SourceTextError> {
        self.tokens_of(&self.content, vocabulary)
    }

    /// The tokens of each line, its line break being the last of it.
    pub(crate) fn lines(&self, vocabulary: usize) -> Result<Vec<Vec<u32>>, SourceTextError> {
        let lines = self.content.split_inclusive(|&byte| byte == b'\n');
        lines.map(|line| self.tokens_of(line, vocabulary)).collect()
    }

    fn tokens_of(&self, content: &[u8], vocabulary: usize) -> Result<Vec<u32>, SourceTextError> {
        if vocabulary == BPE_VOCABULARY {
            let text = std::str::from_utf8(content).map_err(|error| SourceTextError::NotUtf8 {
                text: self.name.clone(),
                at: error.valid_up_to(),
            })?;
            return Ok(tiktoken_rs::r50k_base_singleton().encode_ordinary(text));
        }
        let modulus = u32::try_from(vocabulary.min(BYTE_VOCABULARY - 1)).unwrap_or(u32::MAX).max(1);
        Ok(content.iter().map(|&byte| u32::from(byte) % modulus).collect())
    }
}

/// Why there is no such text.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum SourceTextError {
    #[error("could not read the text {}", path.display())]
    #[diagnostic(help("`--text` takes the path of a text file"))]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{text} is not UTF-8 at byte {at}")]
    #[diagnostic(help("GPT-2's tokens are made from text; convert the file to UTF-8"))]
    NotUtf8 { text: String, at: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_pairs_are_gpt_2s() {
        assert_eq!(SourceText::of(b"Hello world").tokens(BPE_VOCABULARY).unwrap(), [15496, 995]);
        assert_eq!(SourceText::of(b"Hi").tokens(257).unwrap(), [72, 105]);
        assert_eq!(SourceText::of(b"Hi").tokens(64).unwrap(), [8, 41]);
    }

    #[test]
    fn lines_keep_their_breaks() {
        assert_eq!(SourceText::of(b"Hi\n\nH").lines(257).unwrap(), [vec![72, 105, 10], vec![10], vec![72]]);
    }

    #[test]
    fn a_text_that_is_not_there_is_named() {
        let absent = SourceText::read(Some(Path::new("/nowhere/text")));
        assert!(matches!(absent, Err(SourceTextError::Read { .. })));
    }
}

//! A batch in words, as a person reads it in a terminal.

use lossproof_spec::{GlobalBatch, IGNORE_INDEX, Sequence};
use std::fmt;

/// Rows that are printed; of a batch with more, the rest is counted.
const MOST_ROWS: usize = 8;

/// Positions of a row that are printed.
const MOST_POSITIONS: usize = 24;

/// The counts of a batch: `2 micro-batches with 1 and 2 supervised tokens`.
pub struct Counts<'a>(pub &'a GlobalBatch);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = self.0.layout();
        for (index, rank) in layout.ranks().iter().enumerate() {
            if layout.ranks().len() > 1 {
                write!(f, "{}rank {index}: ", if index > 0 { "; " } else { "" })?;
            }
            let many = rank.len() > 1;
            write!(f, "{} micro-batch{} with ", rank.len(), if many { "es" } else { "" })?;
            for (index, micro_batch) in rank.iter().enumerate() {
                let separator = match index {
                    0 => "",
                    _ if index + 1 == rank.len() => " and ",
                    _ => ", ",
                };
                let supervised: Vec<_> = micro_batch.iter().map(|s| s.supervised.to_string()).collect();
                write!(f, "{separator}{}", supervised.join("+"))?;
            }
            f.write_str(" supervised tokens")?;
        }
        Ok(())
    }
}

/// The rows of a batch, one a line: tokens, and unshifted labels with `-` for those that are ignored.
pub struct Rows<'a>(pub &'a GlobalBatch);

impl fmt::Display for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranks = self.0.ranks();
        let mut printed = 0;
        for (rank, own) in ranks.iter().enumerate() {
            for (number, micro_batch) in own.micro_batches().iter().enumerate() {
                for (row, sequence) in micro_batch.sequences().iter().enumerate() {
                    if printed == MOST_ROWS {
                        return write!(f, "\nand {} more rows", self.0.sequences().count() - printed);
                    }
                    f.write_str(if printed > 0 { "\n" } else { "" })?;
                    if ranks.len() > 1 {
                        write!(f, "rank {rank}, ")?;
                    }
                    write!(f, "micro-batch {number}, row {row}: ")?;
                    write_row(f, sequence)?;
                    printed += 1;
                }
            }
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, sequence: &Sequence) -> fmt::Result {
    let label = |&label: &i64| if label == IGNORE_INDEX { "-".to_owned() } else { label.to_string() };
    write!(f, "tokens {}", list(sequence.input_ids(), u32::to_string))?;
    write!(f, "; labels {}", list(sequence.labels(), label))?;
    let counted = |(position, &id): (usize, &u32)| usize::try_from(id) == Ok(position);
    if !sequence.position_ids().iter().enumerate().all(counted) {
        write!(f, "; positions {}", list(sequence.position_ids(), u32::to_string))?;
    }
    if sequence.segment_ids().iter().any(|&id| id != 1) {
        write!(f, "; documents {} (0 is padding)", list(sequence.segment_ids(), u32::to_string))?;
    }
    Ok(())
}

/// Values with spaces between.
fn list<T>(values: &[T], word: impl Fn(&T) -> String) -> String {
    let mut words: Vec<String> = values.iter().take(MOST_POSITIONS).map(word).collect();
    if values.len() > MOST_POSITIONS {
        words.push(format!("… ({} in all)", values.len()));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::{MicroBatch, Rank, SequenceFields};

    fn rank(rows: Vec<Sequence>) -> Rank {
        Rank::new(vec![MicroBatch::new(rows).unwrap()]).unwrap()
    }

    #[test]
    fn rows_have_tokens_labels_and_what_is_not_plain() {
        let plain = Sequence::new(vec![3, 1, 4], vec![IGNORE_INDEX, 1, 4]).unwrap();
        let one = GlobalBatch::single(plain.clone());
        assert_eq!(Rows(&one).to_string(), "micro-batch 0, row 0: tokens 3 1 4; labels - 1 4");
        assert_eq!(Counts(&one).to_string(), "1 micro-batch with 2 supervised tokens");
        let padded = Sequence::from_fields(SequenceFields {
            input_ids: vec![5, 6, 0],
            labels: vec![IGNORE_INDEX, 6, IGNORE_INDEX],
            segment_ids: vec![1, 1, 0],
            position_ids: vec![0, 1, 0],
            ..SequenceFields::default()
        });
        let two = GlobalBatch::new(vec![rank(vec![plain]), rank(vec![padded.unwrap()])]).unwrap();
        let expected = "rank 0, micro-batch 0, row 0: tokens 3 1 4; labels - 1 4\n\
                        rank 1, micro-batch 0, row 0: tokens 5 6 0; labels - 6 -; positions 0 1 0; \
                        documents 1 1 0 (0 is padding)";
        assert_eq!(Rows(&two).to_string(), expected);
    }

    #[test]
    fn what_is_too_much_to_read_is_counted() {
        let long = Sequence::new(vec![7; 30], vec![7; 30]).unwrap();
        let batch = GlobalBatch::new(vec![rank(vec![long; 10])]).unwrap();
        let said = Rows(&batch).to_string();
        assert_eq!(said.lines().count(), MOST_ROWS + 1, "{said}");
        assert!(said.ends_with("\nand 2 more rows") && said.contains("7 … (30 in all); labels"), "{said}");
    }
}

//! Holds what a page shows of a run to what was printed.

/// Lines left out.
const LEFT_OUT: &str = "…";

/// Fractions are the same up to this share, which functions of the system's mathematical library differ by.
const SAME: f64 = 1e-4;

/// Rounding errors, the numbers in scientific notation, are the same up to this factor.
const MAGNITUDE: f64 = 10.0;

/// Holds the lines shown to what was printed. Lines that follow each other have to do so there, in whatever place:
/// tests that run side by side end in any order. How many spaces are between words does not count.
///
/// # Errors
/// The first lines that were not printed.
pub(super) fn compare(shown: &[String], printed: &str) -> Result<(), String> {
    let printed: Vec<&str> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
    for part in shown.split(|line| line == LEFT_OUT) {
        let part: Vec<&String> = part.iter().filter(|line| !line.trim().is_empty()).collect();
        let mut windows = printed.windows(part.len().max(1));
        let found =
            windows.any(|window| part.iter().zip(window).all(|(shown, printed)| same(shown, printed)));
        if !part.is_empty() && !found {
            let missing = part.iter().find(|shown| !printed.iter().any(|line| same(shown, line)));
            return Err(missing.map_or_else(
                || format!("these lines do not follow each other: {part:?}"),
                |line| format!("no line `{line}`"),
            ));
        }
    }
    Ok(())
}

fn same(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (shown.split_whitespace(), printed.split_whitespace());
    shown.clone().count() == printed.clone().count() && shown.zip(printed).all(|(a, b)| a == b || close(a, b))
}

/// Whether two words are numbers with a fraction that are as good as the same.
fn close(shown: &str, printed: &str) -> bool {
    let number = |word: &str| {
        let word = word.trim_start_matches('(').trim_end_matches([',', ';', ':', ')']);
        word.contains('.').then(|| word.parse::<f64>().ok()).flatten()
    };
    let (Some(a), Some(b)) = (number(shown), number(printed)) else { return false };
    if shown.contains('e') {
        a < MAGNITUDE * b && b < MAGNITUDE * a
    } else {
        (a - b).abs() <= SAME * a.abs().max(b.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str =
        "running 2 tests\ntest    a ... ok\ntest b ... FAILED\n\nseen: 1.250000 of 7\n  bound 2.0e-6\n";

    fn shown(text: &str) -> Result<(), String> {
        compare(&text.lines().map(str::to_owned).collect::<Vec<_>>(), PRINTED)
    }

    #[test]
    fn parts_are_found_in_any_order_and_lines_in_theirs() {
        for text in
            ["…\ntest b ... FAILED\n…\ntest a ... ok\n…", "test b ... FAILED\nseen: 1.250000 of 7", "", "…"]
        {
            assert_eq!(shown(text), Ok(()), "{text}");
        }
        assert!(shown("test b ... FAILED\ntest a ... ok").unwrap_err().contains("do not follow each other"));
        assert!(shown("test c ... ok").unwrap_err().contains("no line `test c ... ok`"));
    }

    #[test]
    fn roundings_are_not_compared_and_everything_else_is() {
        for text in ["seen: 1.250001 of 7", "bound 9.0e-6"] {
            assert_eq!(shown(text), Ok(()), "{text}");
        }
        for text in ["seen: 1.26 of 7", "seen: 1.250000 of 8", "seen: 1.250000 of", "bound 2.0e-4"] {
            assert!(shown(text).is_err(), "{text}");
        }
    }
}

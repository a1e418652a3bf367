use super::*;
use crate::{Format, Resolution, Row};
use std::collections::BTreeMap;

/// A log of losses and norms by update.
fn log(rows: &[(u64, f64, f64)]) -> Log {
    let row = |&(update, loss, norm): &(u64, f64, f64)| Row {
        update: Some(update),
        tokens: None,
        values: BTreeMap::from([(Quantity::Loss, loss), (Quantity::GradNorm, norm)]),
    };
    Log {
        name: "a log".to_owned(),
        format: Format::JsonLines,
        rows: rows.iter().map(row).collect(),
        resolution: BTreeMap::new(),
        unit_roundoff: None,
        notes: Vec::new(),
    }
}

fn falling(updates: u64, norm: f64) -> Log {
    let rows: Vec<_> = (1..=updates).map(|u| (u, 4.0 - 0.1 * u as f64, norm / u as f64)).collect();
    log(&rows)
}

fn compared(first: &Log, second: &Log) -> Comparison {
    compare(first, second, &Settings::default()).unwrap()
}

#[test]
fn a_gradient_eight_times_as_large_leads_with_its_factor() {
    let comparison = compared(&falling(5, 1.5), &falling(5, 12.0));
    let (_, parting) = comparison.leading().unwrap();
    assert_eq!((&parting.quantity, parting.place, parting.differing), (&Quantity::GradNorm, 1, 5));
    let Factor::Uniform(ratio) = parting.factor else { panic!("{parting:?}") };
    assert!((ratio.value - 8.0).abs() <= ratio.error && ratio.error < 0.01, "{ratio:?}");
    assert!(!comparison.agrees());
}

#[test]
fn what_was_lost_in_printing_is_no_difference_and_a_percent_is() {
    let first = falling(3, 1.0);
    let mut rounded = first.clone();
    for row in &mut rounded.rows {
        for value in row.values.values_mut() {
            *value = (*value * 100.0).round() / 100.0;
        }
    }
    assert!(!compared(&first, &rounded).agrees());
    rounded.resolution = [Quantity::Loss, Quantity::GradNorm]
        .map(|of| (of, Resolution { absolute: 0.005, relative: 0.0 }))
        .into();
    assert!(compared(&first, &rounded).agrees());
    let mut off = first.clone();
    off.rows[2].values.insert(Quantity::Loss, 3.7 * 1.01);
    let comparison = compared(&first, &off);
    let parting = comparison.leading().unwrap().1;
    assert_eq!((&parting.quantity, parting.place, parting.differing), (&Quantity::Loss, 3, 1));
    assert!(matches!(parting.factor, Factor::Varies { .. }));
}

#[test]
fn the_first_place_leads_and_there_the_first_in_the_order_of_computation() {
    let first = falling(4, 1.5);
    let mut second = first.clone();
    second.rows[1].values.insert(Quantity::GradNorm, 1.5);
    second.rows[2].values.insert(Quantity::Loss, 9.0);
    assert_eq!(compared(&first, &second).leading().unwrap().1.quantity, Quantity::GradNorm);
    second.rows[1].values.insert(Quantity::Loss, 7.6);
    assert_eq!(compared(&first, &second).leading().unwrap().1.quantity, Quantity::Loss);
}

#[test]
fn a_log_of_windows_agrees_and_a_log_that_is_an_update_off_does_not() {
    let dense = falling(9, 1.5);
    let mut windows = log(&[(3, 3.8, 0.5), (6, 3.5, 0.25), (9, 3.2, 1.5 / 9.0)]);
    let comparison = compared(&dense, &windows);
    assert!(comparison.agrees(), "{comparison:?}");
    assert_eq!(comparison.curves[0].pairing, Pairing::MeanOfFirst);
    windows.rows[1].values.insert(Quantity::Loss, 3.4);
    // The last loss of the window is another policy, and only the first point is off then.
    assert!(!compared(&dense, &windows).agrees());
    let mut later = dense.clone();
    later.rows.iter_mut().for_each(|row| row.update = row.update.map(|update| update + 1));
    let comparison = compared(&dense, &later);
    let parting = comparison.leading().unwrap().1;
    assert_eq!(parting.agrees_where, Some(Pairing::SecondIsLater));
    assert!(!comparison.agrees());
}

#[test]
fn logs_with_updates_of_other_sizes_are_lined_up_by_tokens() {
    let with_tokens = |per_update: u64, updates: u64| {
        let mut log = falling(updates, 1.5);
        for row in &mut log.rows {
            row.tokens = row.update.map(|update| update * per_update);
            let loss = 4.0 - 0.001 * (row.tokens.unwrap() as f64);
            row.values = BTreeMap::from([(Quantity::Loss, loss)]);
        }
        log
    };
    let comparison = compared(&with_tokens(10, 8), &with_tokens(20, 4));
    assert_eq!((comparison.by, comparison.curves[0].places.len()), (Place::Tokens, 4));
    assert!(comparison.agrees() && comparison.notes[0].contains("lined up by tokens"), "{comparison:?}");
    let by = Settings { by: Some(Place::Update), ..Settings::default() };
    assert!(!compare(&with_tokens(10, 8), &with_tokens(20, 4), &by).unwrap().agrees());
}

#[test]
fn nothing_in_common_is_an_error_and_nan_agrees_with_nothing() {
    let early = log(&[(1, 3.0, 1.0)]);
    let late = log(&[(9, 3.0, 1.0)]);
    let error = compare(&early, &late, &Settings::default()).unwrap_err();
    assert!(error.to_string().contains("at no update in common"), "{error}");
    let nan = log(&[(1, f64::NAN, 1.0)]);
    let comparison = compared(&nan, &nan);
    assert_eq!(comparison.leading().unwrap().1.factor, Factor::None);
    for tolerance in [-1.0, 1.0, f64::NAN] {
        let settings = Settings { tolerance: Some(tolerance), ..Settings::default() };
        assert!(matches!(compare(&early, &early, &settings), Err(CompareError::Tolerance { .. })));
    }
}

#[test]
fn two_places_of_another_pairing_hide_nothing_and_a_rate_alone_is_no_training() {
    // The mean since the beginning agrees at the first two places, where every update is there.
    let first = log(&[(1, 4.0, 1.0), (2, 4.0, 1.0), (10, 9.0, 1.0), (20, 8.0, 1.0)]);
    let second = log(&[(1, 4.0, 1.0), (2, 4.0, 1.0), (10, 19.0, 1.0), (20, 28.0, 1.0)]);
    assert_eq!(compared(&first, &second).leading().unwrap().1.place, 10);
    let only_rate = |value: f64| {
        let mut log = falling(3, 1.0);
        for row in &mut log.rows {
            row.values =
                BTreeMap::from([(Quantity::LearningRate, 0.1), (Quantity::Other("x".to_owned()), value)]);
        }
        log
    };
    let comparison = compared(&only_rate(1.0), &only_rate(8.0));
    assert!(comparison.agrees() && !comparison.is_of_the_training());
    assert!(comparison.uncompared[0].starts_with("`x`: what it is is not known"), "{comparison:?}");
}

#[test]
fn coarse_numbers_decide_nothing_and_split_columns_are_not_compared() {
    let rate = |value: f64| {
        let mut log = falling(3, 1.0);
        for row in &mut log.rows {
            row.values.insert(Quantity::LearningRate, value);
        }
        log.resolution = [(Quantity::LearningRate, Resolution { absolute: 0.5e-6, relative: 0.0 })].into();
        log
    };
    let comparison = compared(&rate(1e-6), &rate(2e-6));
    assert!(comparison.uncompared[0].contains("printed to too few places"), "{comparison:?}");
    let mut split = falling(4, 1.0);
    let validation: Vec<Row> = split
        .rows
        .iter()
        .map(|row| Row { values: BTreeMap::from([(Quantity::Loss, 9.0)]), ..row.clone() })
        .collect();
    split.rows.extend(validation);
    let comparison = compared(&split, &falling(4, 1.0));
    assert!(comparison.uncompared[0].contains("several numbers of it at most places"), "{comparison:?}");
}

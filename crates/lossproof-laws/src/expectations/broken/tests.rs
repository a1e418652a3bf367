use super::*;
use crate::blocks;
use lossproof_numerics::Block;

fn violation(unit: &str, ratio: Option<f64>, error: f64, bound: f64) -> Violation {
    Violation { unit: unit.to_owned(), statement: "x = y".to_owned(), error, bound, pair: None, ratio }
}

#[test]
fn a_unit_is_shown_by_its_worst_violation() {
    let broken = Broken::of(&[
        violation("wte", Some(2.0), 1.0, 1e-9),
        violation("loss", None, 0.9, 1e-9),
        violation("wte", Some(1.5), 0.5, 1e-9),
    ]);
    assert_eq!(broken.units().collect::<Vec<_>>(), ["loss", "wte"]);
    let declared = broken.declaration();
    assert_eq!((declared["wte"].ratio, declared["wte"].deviation), (Some(2.0), None));
    assert_eq!((declared["loss"].ratio, declared["loss"].deviation), (None, Some(0.9)));
}

#[test]
fn rows_of_a_parameter_are_the_parameter() {
    let block = |parameter: &str, label: &str| Block {
        parameter: parameter.to_owned(),
        label: label.to_owned(),
        rows: 0..2,
        columns: 0..4,
        width: 4,
        structurally_zero: false,
        may_be_zero: false,
        undeclared: false,
    };
    let unit = |block: &Block| without_rows(&blocks::name(block)).to_owned();
    assert_eq!(unit(&block("wpe.weight", "rows 0..2")), "wpe.weight");
    assert_eq!(unit(&block("wpe.weight", "all")), "wpe.weight");
    // Which part of attention it is hangs on no case.
    assert_eq!(unit(&block("h.0.attn.c_attn.weight", "query")), "h.0.attn.c_attn.weight[query]");
}

#[test]
fn a_ratio_is_declared_to_six_digits() {
    for (ratio, declared) in [
        (2.0, 2.0),
        (-1.0 / 3.0, -0.333_333),
        (1_234.567_8, 1234.57),
        (0.998_7, 0.998_7),
        (0.0, 0.0),
        (-1e-17, 0.0),
    ] {
        let found = lasting_ratio(&violation("wte", Some(ratio), (1.0_f64 - ratio).abs(), 1e-12));
        assert_eq!(found, Some(declared), "{ratio}");
        assert!((ratio - declared).abs() <= LASTING * ratio_tolerance(declared), "{ratio}");
    }
    // Six digits do not tell it from 1.
    assert_eq!(lasting_ratio(&violation("wte", Some(1.000_012_3), 1.23e-5, 1e-12)), None);
}

#[test]
fn a_defect_is_told_from_another_by_how_far_it_is_off() {
    let declared = DeclaredUnit::of(&violation("wte", Some(0.5), 0.5, 1e-9));
    assert!(declared.is(&violation("wte", Some(0.502), 0.498, 1e-9)));
    assert!(!declared.is(&violation("wte", Some(0.52), 0.48, 1e-9)));
    assert!(!declared.is(&violation("wte", None, 0.5, 1e-9)));
    // One that is no multiple, by its distance.
    let declared = DeclaredUnit::of(&violation("wte", None, 0.123_456, 1e-9));
    assert_eq!(declared, DeclaredUnit { ratio: None, deviation: Some(0.123_5) });
    assert!(
        declared.is(&violation("wte", None, 0.124, 1e-9))
            && declared.is(&violation("wte", None, 0.123, 1e-9))
    );
    assert!(!declared.is(&violation("wte", None, 0.12, 1e-9)));
    // A fact is off by nothing that could be written, and one in rounding by chance.
    for (error, bound) in [(f64::INFINITY, 0.0), (f64::NAN, 1e-9), (1.1e-9, 1e-9)] {
        assert_eq!(
            DeclaredUnit::of(&violation("wte", None, error, bound)),
            DeclaredUnit::default(),
            "{error}"
        );
    }
}

#[test]
fn a_ratio_to_rounding_or_to_nothing_is_not_declared() {
    // 0.5 of the scale was found where zero was due, and rounding made it 1e-17 of the scale.
    assert_eq!(lasting_ratio(&violation("wte", Some(5e16), 0.5, 1e-14)), None);
    // What is just outside its bound may be anywhere in it.
    assert_eq!(lasting_ratio(&violation("wte", Some(-0.2), 1.2e-9, 1e-9)), None);
    assert_eq!(lasting_ratio(&violation("wte", None, 1.0, 1e-9)), None);
    assert_eq!(lasting_ratio(&violation("wte", Some(f64::NAN), 1.0, 1e-9)), None);
    assert_eq!(lasting_ratio(&violation("wte", Some(2.0), f64::NAN, 1e-9)), None);
}

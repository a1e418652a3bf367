//! Rows as a verification makes them, with some of them red.

use super::{BlamedPart, Parties, Party, blames};
use crate::statement::{BoundFrom, Comparison, Statement, StatementRow, Verdict};
use Statement::{
    FiniteDifferences, Gradient, GradientCalculus, Loss, LossCalculus, ReportedTokenLosses,
    ThirdForwardGradient, ThirdForwardLoss, ThirdForwardLosses, TokenLosses,
};

const SEMANTICS: [&str; 6] = [
    "sum",
    "per-token mean",
    "per-sequence mean",
    "batch mean",
    "naive accumulated mean",
    "accumulated per-token mean",
];

/// What fails, and how far it is off.
type Fails<'a> = &'a dyn Fn(&str, Statement, Option<&str>) -> Option<f64>;

/// What a row of this statement is certain to catch in f64.
fn power(statement: Statement) -> f64 {
    if statement == FiniteDifferences { 1e-9 } else { 1e-13 }
}

fn row(
    subject: &str,
    statement: Statement,
    semantics: Option<&'static str>,
    fails: Fails<'_>,
) -> StatementRow {
    let error = fails(subject, statement, semantics);
    StatementRow {
        statement,
        semantics,
        subject: subject.to_owned(),
        text: String::new(),
        worst: Comparison { at: String::new(), error: error.unwrap_or(0.0), bound: power(statement) },
        bound_from: BoundFrom::Rounding,
        compared: 1,
        power: Some(power(statement)),
        control_caught: true,
        verdict: if error.is_some() { Verdict::Fail } else { Verdict::Pass },
        unchecked: None,
    }
}

/// All rows of a verification in f64, with a recording or without.
fn exact(third: bool, fails: Fails<'_>) -> Vec<StatementRow> {
    let mut rows = vec![row("ours", TokenLosses, None, fails)];
    for side in ["ours", "theirs"] {
        if third {
            let statements = [ThirdForwardLosses, ThirdForwardLoss, ThirdForwardGradient];
            rows.extend(statements.map(|statement| row(side, statement, None, fails)));
        }
        rows.push(row(side, ReportedTokenLosses, None, fails));
        for semantics in SEMANTICS {
            let statements = [LossCalculus, FiniteDifferences, GradientCalculus];
            rows.extend(statements.map(|statement| row(side, statement, Some(semantics), fails)));
        }
    }
    for semantics in SEMANTICS {
        rows.extend([Loss, Gradient].map(|statement| row("ours", statement, Some(semantics), fails)));
    }
    rows
}

fn blamed(rows: &[StatementRow]) -> Vec<(String, BlamedPart)> {
    let sides = ["ours", "theirs"].map(|name| Party { name, implementation: name });
    let blames = blames(rows, &Parties { sides: sides.to_vec(), truth: None });
    blames.into_iter().map(|blame| (blame.subject, blame.part)).collect()
}

#[track_caller]
fn assert_blamed(rows: &[StatementRow], expected: &[(&str, BlamedPart)]) {
    let expected: Vec<_> = expected.iter().map(|(name, part)| ((*name).to_owned(), *part)).collect();
    assert_eq!(blamed(rows), expected);
}

#[test]
fn nobody_is_blamed_where_nothing_failed() {
    assert_blamed(&exact(true, &|_, _, _| None), &[]);
}

fn evaluation(subject: &str, statement: Statement) -> Option<f64> {
    let own = [ThirdForwardLosses, LossCalculus, FiniteDifferences, ReportedTokenLosses];
    (statement == TokenLosses || (subject == "ours" && own.contains(&statement))).then_some(0.01)
}

#[test]
fn a_wrong_evaluation_is_not_a_wrong_backward_pass() {
    for third in [true, false] {
        let mut rows = exact(third, &|subject, statement, _| evaluation(subject, statement));
        assert_blamed(&rows, &[("ours", BlamedPart::Evaluation)]);
        rows.retain(|row| row.statement != ReportedTokenLosses);
        assert_blamed(&rows, &[("ours", BlamedPart::Evaluation)]);
    }
}

#[test]
fn a_wrong_evaluation_beside_a_wrong_tensor_are_two_mistakes() {
    for third in [true, false] {
        let rows = exact(third, &|subject, statement, _| match statement {
            Gradient => Some(1e-6),
            ThirdForwardGradient if subject == "ours" => Some(1e-6),
            _ => evaluation(subject, statement),
        });
        assert_blamed(&rows, &[("ours", BlamedPart::Evaluation), ("ours", BlamedPart::Backward)]);
    }
}

#[test]
fn a_wrong_forward_pass_is_told_by_a_third_one_alone() {
    let wrong = |subject: &str, statement, _: Option<&str>| {
        let own = [ThirdForwardLosses, ThirdForwardLoss, ThirdForwardGradient];
        let both = [TokenLosses, Loss, Gradient];
        (both.contains(&statement) || (subject == "theirs" && own.contains(&statement))).then_some(0.1)
    };
    assert_blamed(&exact(true, &wrong), &[("theirs", BlamedPart::Forward)]);
    assert_blamed(&exact(false, &wrong), &[("ours or theirs", BlamedPart::Undecided)]);
}

#[test]
fn a_forward_pass_that_is_another_in_training_is_wrong_there() {
    let rows = exact(true, &|subject, statement, _| {
        let own =
            [ThirdForwardLoss, ThirdForwardGradient, LossCalculus, FiniteDifferences, ReportedTokenLosses];
        let both = [Loss, Gradient];
        (both.contains(&statement) || (subject == "ours" && own.contains(&statement))).then_some(0.1)
    });
    assert_blamed(&rows, &[("ours", BlamedPart::Forward)]);
}

#[test]
fn a_wrong_backward_pass_and_a_wrong_reduction() {
    let backward = |error| {
        move |subject: &str, statement, _: Option<&str>| match statement {
            Gradient => Some(error),
            ThirdForwardGradient if subject == "theirs" => Some(error),
            FiniteDifferences if subject == "theirs" => (error > 1e-9).then_some(error),
            _ => None,
        }
    };
    for error in [1e-6, 1e-11, f64::INFINITY] {
        assert_blamed(&exact(true, &backward(error)), &[("theirs", BlamedPart::Backward)]);
    }
    for semantics in SEMANTICS {
        let reduction = |subject: &str, statement, under: Option<&str>| {
            let own = [LossCalculus, FiniteDifferences, GradientCalculus];
            let both = [Loss, Gradient];
            let red = both.contains(&statement) || (subject == "theirs" && own.contains(&statement));
            (red && under == Some(semantics)).then_some(0.5)
        };
        assert_blamed(&exact(true, &reduction), &[("theirs", BlamedPart::Reduction)]);
    }
}

#[test]
fn a_loss_of_another_scale_is_a_wrong_reduction() {
    let rows = exact(true, &|subject, statement, _| {
        let own = [ThirdForwardLoss, LossCalculus];
        (statement == Loss || (subject == "ours" && own.contains(&statement))).then_some(1e-6)
    });
    assert_blamed(&rows, &[("ours", BlamedPart::Reduction)]);
}

#[test]
fn reported_token_losses_alone_are_a_wrong_report() {
    let rows = exact(true, &|subject, statement, _| {
        (subject == "ours" && statement == ReportedTokenLosses).then_some(1.0)
    });
    assert_blamed(&rows, &[("ours", BlamedPart::Report)]);
}

#[test]
fn a_truth_whose_evaluation_is_wrong_convicts_nobody_else() {
    use Statement::{TruthGradient, TruthLoss, TruthTokenLosses};
    let sides = ["ours", "theirs"].map(|name| Party { name, implementation: name });
    let truth = Party { name: "truth f64", implementation: "truth" };
    let rows = |fails: Fails<'_>| {
        let mut rows = Vec::new();
        for side in ["ours", "theirs"] {
            rows.push(row(side, TruthTokenLosses, None, fails));
            rows.push(row(side, ReportedTokenLosses, None, fails));
            for semantics in SEMANTICS {
                let statements = [TruthLoss, TruthGradient, LossCalculus, GradientCalculus];
                rows.extend(statements.map(|statement| row(side, statement, Some(semantics), fails)));
            }
        }
        rows.push(row("truth f64", FiniteDifferences, Some("sum"), fails));
        let blames = blames(&rows, &Parties { sides: sides.to_vec(), truth: Some(truth) });
        blames.into_iter().map(|blame| (blame.subject, blame.part)).collect::<Vec<_>>()
    };
    let evaluation = rows(&|_, statement, _| {
        [TruthTokenLosses, TruthLoss, FiniteDifferences].contains(&statement).then_some(0.01)
    });
    assert_eq!(evaluation, [("truth f64".to_owned(), BlamedPart::Evaluation)]);
    let backward =
        rows(&|_, statement, _| [TruthGradient, FiniteDifferences].contains(&statement).then_some(0.01));
    assert_eq!(backward, [("truth f64".to_owned(), BlamedPart::Backward)]);
}

#[test]
fn an_implementation_whose_f64_is_the_truth_is_told_from_its_truth_alone() {
    use Statement::{PrecisionGradient, PrecisionLoss, PrecisionTokenLosses};
    use Statement::{TruthGradient, TruthLoss, TruthTokenLosses};
    let sides = ["ours", "theirs"].map(|name| Party { name, implementation: name });
    let truth = Party { name: "theirs f64", implementation: "theirs" };
    let backward = |fails: Fails<'_>| {
        let mut rows = Vec::new();
        let of_truth = [
            ("ours", [TruthTokenLosses, TruthLoss, TruthGradient]),
            ("theirs", [PrecisionTokenLosses, PrecisionLoss, PrecisionGradient]),
        ];
        for (side, [token_losses, loss, gradient]) in of_truth {
            rows.push(row(side, token_losses, None, fails));
            for semantics in SEMANTICS {
                let statements = [loss, gradient, LossCalculus, GradientCalculus];
                rows.extend(statements.map(|statement| row(side, statement, Some(semantics), fails)));
            }
        }
        rows.push(row("theirs f64", FiniteDifferences, Some("sum"), fails));
        let blames = blames(&rows, &Parties { sides: sides.to_vec(), truth: Some(truth) });
        blames.into_iter().map(|blame| (blame.subject, blame.part)).collect::<Vec<_>>()
    };
    let everywhere =
        backward(&|_, statement, _| [TruthGradient, FiniteDifferences].contains(&statement).then_some(0.01));
    assert_eq!(everywhere, [("theirs".to_owned(), BlamedPart::Backward)]);
    let truth_alone = backward(&|_, statement, _| {
        [TruthGradient, PrecisionGradient, FiniteDifferences].contains(&statement).then_some(0.01)
    });
    assert_eq!(truth_alone, [("theirs f64".to_owned(), BlamedPart::Backward)]);
    let single_precision = backward(&|_, statement, _| (statement == PrecisionGradient).then_some(0.01));
    assert_eq!(single_precision, [("theirs".to_owned(), BlamedPart::Backward)]);
}

//! A report with every kind of part: a trainer that averages the means of its micro-batches.

use lossproof_report::{
    Cell, Check, CheckOutcome, Checks, Column, Coverage, Curves, Definition, Difference, HeatMap, HeatMaps,
    Kill, KillMatrix, KillRow, Outcome, Part, Report, Scale, Section, Sequence, Series, Table, TableCell,
};

/// The supervised tokens of each sequence, by rank and micro-batch; the first three positions are not
/// supervised.
const BATCH: [(usize, usize, &[usize]); 5] =
    [(0, 0, &[2, 1]), (0, 1, &[7]), (1, 0, &[4, 2]), (1, 1, &[5]), (1, 2, &[2])];
/// Supervised tokens in all.
const TOKENS: usize = 23;

/// The report.
pub(crate) fn report() -> Report {
    Report {
        title: "What my trainer computes".to_owned(),
        command: "lossproof tomography --trainer ./my-trainer --seed 7 --html report.html".to_owned(),
        subject: vec![
            "my trainer 1.4.0 (PyTorch 2.11.0), f32 on cuda:0; noise floor 3.1e-8".to_owned(),
            "asked for: per-token mean over the global batch, micro-batches added, ranks added".to_owned(),
        ],
        outcome: Outcome::Deviates,
        summary:
            "It averages the means of its micro-batches: tokens of a short micro-batch weigh up to 3.8 times \
                  what they should."
                .to_owned(),
        sections: vec![
            Section::new(
                "What every prediction weighs",
                vec![Part::HeatMaps(weights()), Part::HeatMaps(ratios())],
            ),
            Section::new("How it was found", found()),
            Section::new("Laws", vec![Part::Checks(laws())]),
            Section::new("Certified, and not covered", vec![Part::Coverage(coverage())]),
            Section::new("Loss while training", vec![Part::Curves(losses()), Part::Curves(norms())]),
            Section::new("Bugs and the laws that find them", vec![Part::KillMatrix(kills())]),
        ],
    }
}

fn sequences() -> Vec<Sequence> {
    let mut sequences = Vec::new();
    for (rank, micro_batch, lengths) in BATCH {
        for _ in lengths {
            sequences.push(Sequence { rank, micro_batch, sequence: sequences.len() });
        }
    }
    sequences
}

/// Cells by sequence and position, where `cell` knows the supervised tokens of its micro-batch and the
/// micro-batches of its rank.
fn cells(cell: impl Fn(usize, usize) -> Cell) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for (rank, _, lengths) in BATCH {
        let windows = BATCH.iter().filter(|(other, ..)| *other == rank).count();
        for length in lengths {
            let mut row = vec![Cell::ignored(); usize::from(rows.is_empty()) * 3];
            row.extend((0..*length).map(|_| cell(lengths.iter().sum(), windows)));
            rows.push(row);
        }
    }
    rows
}

fn weights() -> HeatMaps {
    let recovered = |tokens: usize, windows: usize| {
        let weight = 1.0 / (tokens * windows * 2) as f64;
        Cell::differing(weight, format!("{weight:.4}"))
    };
    HeatMaps {
        caption:
            "The weight of every prediction in the loss: what is claimed, and what least squares over the \
                  gradient of each token recovered from the gradient of the batch."
                .to_owned(),
        quantity: "weight".to_owned(),
        scale: Scale::Magnitude,
        sequences: sequences(),
        maps: vec![
            HeatMap {
                name: "claimed".to_owned(),
                cells: cells(|_, _| Cell::new(1.0 / TOKENS as f64, format!("1/{TOKENS}"))),
            },
            HeatMap { name: "recovered from the gradient".to_owned(), cells: cells(recovered) },
        ],
    }
}

fn ratios() -> HeatMaps {
    let ratio = |tokens: usize, windows: usize| {
        let ratio = TOKENS as f64 / (tokens * windows * 2) as f64;
        Cell::new(ratio, format!("{TOKENS}/{}", tokens * windows * 2))
    };
    HeatMaps {
        caption: "The recovered weight over the claimed one.".to_owned(),
        quantity: "ratio".to_owned(),
        scale: Scale::Ratio,
        sequences: sequences(),
        maps: vec![HeatMap { name: "recovered over claimed".to_owned(), cells: cells(ratio) }],
    }
}

fn found() -> Vec<Part> {
    let row = |what: &str, error: &str, bound: &str, outcome| {
        vec![
            TableCell::plain(what),
            TableCell::plain(error),
            TableCell::plain(bound),
            TableCell::judged(if outcome == Outcome::Conforms { "holds" } else { "open" }, outcome),
        ]
    };
    vec![
        Part::Paragraph(
            "By least squares over the token gradients of a reference at the same parameters: 23 weights \
             from 1 528 equations, condition 4.2."
                .to_owned(),
        ),
        Part::Definitions(vec![
            Definition::new("found", "naive accumulated mean: means over micro-batches, averaged"),
            Definition::new("violated", "2.2, 4.1, 5.2"),
            Definition::new("satisfied", "2.6, 2.9, 2.12, 3.1, 3.2, 3.3, 3.5, 4.2, 5.4, 5.5"),
        ]),
        Part::Table(Table {
            caption: "What the fit is held to".to_owned(),
            columns: vec![
                Column::words("statement"),
                Column::numbers("error"),
                Column::numbers("bound"),
                Column::words("outcome"),
            ],
            rows: vec![
                row("the residual is rounding", "3.3e-16", "4.0e-14", Outcome::Conforms),
                row("the columns are independent", "4.2", "1.0e6", Outcome::Conforms),
                row("the logged loss has the same weights", "", "", Outcome::Unchecked),
            ],
        }),
    ]
}

fn laws() -> Checks {
    let law = |id: &str, what: &str, cases: u32, telling: u32, worst: f64, seconds: f64| {
        Check::passed(id, what)
            .measured("cases", f64::from(cases))
            .measured("telling", f64::from(telling))
            .measured("worst", worst)
            .measured("bound", 2e-14)
            .with_seconds(seconds)
    };
    let batch = "2 ranks, 2 micro-batches, seed 7\n\
                 rank 0  micro-batch 0   [12 40 3]       2 supervised tokens\n\
                 rank 0  micro-batch 1   [9 31]          1 supervised token\n\
                 rank 1  micro-batch 0   [5 22]          1 supervised token\n\n\
                 gradient of wte.weight, relative to the largest\n  \
                 expected   0.250000000\n  actual     0.375000000";
    let failed =
        law("token-mean", "every supervised token of the global batch has the same weight", 31, 24, 0.5, 1.3);
    Checks {
        name: "laws".to_owned(),
        checks: vec![
            Check {
                outcome: CheckOutcome::Failed(
                    "a token of a micro-batch with one token weighs 1.5 times what it should".to_owned(),
                ),
                ..failed.with_details(batch).with_rerun(
                    "lossproof laws --trainer ./my-trainer --law token-mean --case cases/token-mean-7.json",
                )
            },
            law(
                "linearity",
                "the gradient of a sum of losses is the sum of their gradients",
                256,
                240,
                2.1e-15,
                0.81,
            ),
            law("causality", "a label's loss depends on no token behind it", 256, 201, 0.0, 1.7),
            Check::new(
                "adam-scale",
                "a multiple of all gradients does not change an Adam step",
                CheckOutcome::Unchecked(
                    "no case could have told a violation: the step is below rounding".to_owned(),
                ),
            )
            .measured("cases", 256.0)
            .measured("telling", 0.0)
            .measured("worst", f64::NAN)
            .with_rerun("lossproof laws --trainer ./my-trainer --law adam-scale --seed 7"),
            Check::new(
                "resuming",
                "a run that is resumed goes on as if it had not been stopped",
                CheckOutcome::Errored(
                    "the trainer ended with exit code 137 in the middle of a call".to_owned(),
                ),
            )
            .with_details("Killed"),
            Check::new(
                "validation",
                "a validation is the mean over the supervised tokens of the corpus",
                CheckOutcome::Skipped("the card has no capability `evaluation`".to_owned()),
            ),
        ],
    }
}

fn coverage() -> Coverage {
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    Coverage {
        certified: owned(&[
            "The gradient is linear in the weights, to a relative error of 2.1e-15",
            "No label sees a token behind it, on batches of up to 24 positions",
        ]),
        not_covered: owned(&[
            "Weights that depend on the tokens and not on the layout alone: the probes have different tokens",
            "Padding, several documents in a sequence, label smoothing, a z-loss: not in this batch",
            "Clipping, other optimizers and schedules: one step was looked at, once",
        ]),
    }
}

fn losses() -> Curves {
    let course = |slower: f64| {
        (0..=120).map(move |step| {
            let tokens = f64::from(step) * 4096.0;
            let noise = (f64::from(step) * 12.9898).sin() * 0.03;
            (tokens, 1.6 + 4.4 * (-tokens / (90_000.0 * slower)).exp() + noise)
        })
    };
    let mut broken: Vec<_> = course(1.35).collect();
    for step in &mut broken[97..100] {
        step.1 = f64::NAN;
    }
    Curves {
        caption: "Loss of three runs on the same samples in the same order.".to_owned(),
        x: "tokens".to_owned(),
        y: "loss".to_owned(),
        log: false,
        series: vec![
            Series::new("reference", course(1.0).collect()),
            Series::new("my trainer", course(1.2).collect()),
            Series::new("my trainer, f16", broken),
        ],
        difference: Some(Difference::Absolute),
    }
}

fn norms() -> Curves {
    let course =
        |factor: f64| (1..=20).map(|step| (f64::from(step), factor * 3.0 / f64::from(step))).collect();
    Curves {
        caption: "Norm of the gradient before clipping.".to_owned(),
        x: "updates".to_owned(),
        y: "gradient norm".to_owned(),
        log: true,
        series: vec![Series::new("reference", course(1.0)), Series::new("my trainer", course(8.0))],
        difference: Some(Difference::Ratio),
    }
}

fn kills() -> KillMatrix {
    let columns = [
        "token-mean",
        "sum",
        "linearity",
        "shift",
        "counting",
        "empty-groups",
        "packing",
        "causality",
        "weight-tying",
        "finite-differences",
        "split-invariance",
        "rank-invariance",
        "adam-scale",
        "validation",
    ];
    let bugs = [
        ("ga-mean-of-means", "NoooooooooKKo "),
        ("rank-local-token-mean", "NooooooooooKo "),
        ("counted-before-shift", "KooKNooooooooo"),
        ("pad-in-denominator", "KoooNooooooooo"),
        ("all-ignored-nan", "oooooNoooooooo"),
        ("causal-mask-dropped-on-path", "ooooooKNoooooo"),
        ("tied-embedding-detached", "ooooooooNKoooo"),
        ("log-loss-misscaled-under-ga", "oooooooooooooo"),
        ("zero-grad-missing", "KKoooooooooKo "),
    ];
    let kill = |sign| match sign {
        'N' => Kill::Named,
        'K' => Kill::Killed,
        'o' => Kill::Missed,
        _ => Kill::Untried,
    };
    KillMatrix {
        caption: "Bugs put into the reference, and which law fails for each".to_owned(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        rows: bugs
            .iter()
            .map(|(bug, cells)| KillRow { bug: (*bug).to_owned(), cells: cells.chars().map(kill).collect() })
            .collect(),
    }
}

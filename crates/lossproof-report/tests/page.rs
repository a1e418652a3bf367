//! The page, read by a parser of HTML as browsers have it.

#[path = "../examples/page/sample.rs"]
mod sample;

use lossproof_report::{
    Cell, Check, CheckOutcome, Checks, Column, Coverage, Curves, Definition, Difference, HeatMap, HeatMaps,
    Kill, KillMatrix, KillRow, Outcome, Part, Report, Scale, Section, Sequence, Series, Table, TableCell,
    html,
};
use scraper::{ElementRef, Html, Selector};
use std::collections::BTreeSet;

/// The page as a browser understands it; what a browser would have to mend is an error.
fn parsed(report: &Report) -> Html {
    let page = Html::parse_document(&html(report));
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    page
}

fn select<'a>(page: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    page.select(&Selector::parse(selector).expect("a selector")).collect()
}

fn text(element: ElementRef<'_>) -> String {
    element.text().collect()
}

fn of(parts: Vec<Part>) -> Report {
    Report {
        title: "title".to_owned(),
        command: "command".to_owned(),
        subject: vec!["subject".to_owned()],
        outcome: Outcome::Conforms,
        summary: "summary".to_owned(),
        sections: vec![Section::new("heading", parts)],
    }
}

#[test]
fn nothing_on_the_page_runs_or_comes_from_elsewhere() {
    let page = parsed(&sample::report());
    for element in select(&page, "*") {
        let name = element.value().name();
        assert!(
            !["script", "link", "img", "iframe", "object", "embed", "base", "form"].contains(&name),
            "{name}"
        );
        for (attribute, value) in element.value().attrs() {
            assert!(
                !attribute.starts_with("on") && !["src", "style"].contains(&attribute),
                "{attribute}={value}"
            );
            assert!(attribute != "href" || value.starts_with('#'), "{value}");
        }
    }
    let style = text(select(&page, "style")[0]);
    assert!(!style.contains("url(") && !style.contains("@import"));
    let policy = select(&page, "meta[http-equiv]")[0].attr("content").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert_eq!(select(&page, "meta[name=viewport]").len(), 1);
}

#[test]
fn identifiers_are_unique_and_every_link_leads_somewhere() {
    let page = parsed(&sample::report());
    assert_eq!(select(&page, "a[href]").len(), 6 + 3, "six sections, and three checks that did not pass");
    identifiers_resolve(&page);
    // The same checks in every section, in the same words.
    identifiers_resolve(&parsed(&all("text")));
}

fn identifiers_resolve(page: &Html) {
    let mut ids = BTreeSet::new();
    for id in select(page, "[id]").into_iter().filter_map(|element| element.attr("id")) {
        assert!(ids.insert(id), "{id} is there twice");
    }
    for target in select(page, "a[href]").into_iter().filter_map(|link| link.attr("href")) {
        assert!(ids.contains(target.trim_start_matches('#')), "{target}");
    }
    for target in select(page, "[aria-labelledby]").into_iter().filter_map(|it| it.attr("aria-labelledby")) {
        assert!(ids.contains(target), "{target}");
    }
}

#[test]
fn every_drawing_has_a_title_and_its_numbers_as_a_table() {
    let page = parsed(&sample::report());
    let drawings = select(&page, "svg[role=img]");
    assert_eq!(drawings.len(), 3 + 4, "three maps, and two figures of two drawings");
    for drawing in drawings {
        let title = drawing.child_elements().next().unwrap();
        assert_eq!(title.value().name(), "title");
        assert_eq!(Some(text(title).as_str()), drawing.attr("aria-label"));
        assert!(drawing.attr("viewBox").is_some());
    }
    assert_eq!(select(&page, "figure details table").len(), 4);
}

#[test]
fn every_cell_of_a_heat_map_has_its_number_in_the_map_and_in_the_table() {
    let page = parsed(&sample::report());
    let cells = |map: usize| {
        select(&page, &format!("#section-1 figure:first-of-type .map:nth-of-type({map}) g.cell"))
    };
    let titles = |map| -> Vec<String> {
        cells(map).iter().map(|cell| text(cell.child_elements().next().unwrap())).collect()
    };
    let (claimed, recovered) = (titles(1), titles(2));
    assert_eq!((claimed.len(), recovered.len()), (26, 26));
    assert_eq!(claimed[0], "rank 0, micro-batch 0, sequence 0, position 0: ignored");
    assert_eq!(claimed[3], "rank 0, micro-batch 0, sequence 0, position 3: 1/23 = 0.043478260869565216");
    assert_eq!(
        recovered[25],
        "rank 1, micro-batch 2, sequence 6, position 1: ≠ 0.0833 = 0.08333333333333333"
    );
    // 4 supervised tokens in the micro-batch, 2 micro-batches, 2 ranks, and so on.
    let weights = [(3..6, 12.0), (6..13, 28.0), (13..19, 36.0), (19..24, 30.0), (24..26, 12.0)];
    for (range, divisor) in weights {
        for title in &recovered[range] {
            let value: f64 = title.rsplit("= ").next().unwrap().parse().unwrap();
            assert!((value * divisor - 1.0).abs() < 1e-15, "{title}");
        }
    }
    let classes = |cell: &ElementRef<'_>| cell.attr("class").unwrap().to_owned();
    assert_eq!(classes(&cells(1)[3]), "cell cool-4", "0.52 of the largest");
    assert_eq!(classes(&cells(2)[25]), "cell cool-6 differs");
    assert_eq!(classes(&cells(2)[13]), "cell cool-2 differs", "exactly a third of the largest");
    assert_eq!(classes(&cells(1)[0]), "cell ignored is-ignored");

    let rows = select(&page, "#section-1 figure:first-of-type details tbody tr");
    for (row, (claimed, recovered)) in rows.iter().zip(claimed.iter().zip(&recovered)) {
        let row: Vec<_> = row.child_elements().map(text).collect();
        let [rank, micro_batch, sequence, position] = row[0].split(" / ").collect::<Vec<_>>()[..] else {
            panic!("{row:?}");
        };
        let place =
            format!("rank {rank}, micro-batch {micro_batch}, sequence {sequence}, position {position}");
        assert_eq!(format!("{place}: {}", row[1]), *claimed);
        assert_eq!(format!("{place}: {}", row[2]), *recovered);
    }
    assert_eq!(rows.len(), 26);
}

#[test]
fn numbers_that_no_colour_can_stand_for_are_said() {
    let values = [0.0, -1.0, f64::NAN, f64::INFINITY, 2.0, 1e-300];
    let map = HeatMap {
        name: "weights".to_owned(),
        cells: vec![values.iter().map(|value| Cell::new(*value, "a label that does not fit")).collect()],
    };
    let maps = |scale| HeatMaps {
        caption: String::new(),
        quantity: "weight".to_owned(),
        scale,
        sequences: vec![Sequence { rank: 0, micro_batch: 0, sequence: 0 }],
        maps: vec![map.clone()],
    };
    let classes = |scale| -> Vec<String> {
        let page = parsed(&of(vec![Part::HeatMaps(maps(scale))]));
        select(&page, "g.cell").iter().map(|cell| cell.attr("class").unwrap().replace("cell ", "")).collect()
    };
    assert_eq!(classes(Scale::Magnitude), ["zero", "warm-3", "unknown", "unknown", "cool-6", "zero"]);
    assert_eq!(classes(Scale::Ratio), ["cool-6", "cool-6", "unknown", "unknown", "warm-4", "cool-6"]);
    let page = parsed(&of(vec![Part::HeatMaps(maps(Scale::Magnitude))]));
    let shown: Vec<_> = select(&page, "g.cell > text").into_iter().map(text).collect();
    assert_eq!(shown, ["0", "-1", "NaN", "inf", "2", "1.0e-300"]);
}

#[test]
fn curves_say_what_they_do_not_draw_and_compare_where_both_are() {
    let report = of(vec![Part::Curves(Curves {
        caption: "losses".to_owned(),
        x: "updates".to_owned(),
        y: "loss".to_owned(),
        log: true,
        series: vec![
            Series::new("one", vec![(0.0, 1.0), (1.0, 2.0), (2.0, 4.0)]),
            Series::new("two", vec![(-0.0, 3.0), (1.0, f64::NAN), (2.0, 0.0), (3.0, 5.0)]),
            Series::new("none", vec![]),
        ],
        difference: Some(Difference::Ratio),
    })]);
    let page = parsed(&report);
    let notes: Vec<_> = select(&page, ".panel:first-child .note").into_iter().map(text).collect();
    assert_eq!(
        notes,
        [
            "two: 1 not finite, the first NaN at 1 updates.",
            "two: 1 not positive, which a logarithmic axis has no place for.",
            "none: no values.",
        ]
    );
    let panels = select(&page, ".panel");
    let count =
        |panel: usize, selector: &str| panels[panel].select(&Selector::parse(selector).unwrap()).count();
    assert_eq!(count(0, ".series-0 polyline"), 1);
    assert_eq!(count(0, ".series-1 polyline"), 2, "a gap parts it");
    assert_eq!(count(0, ".series-1 text.cross"), 2);
    let rows: Vec<Vec<_>> =
        select(&page, "tbody tr").iter().map(|row| row.child_elements().map(text).collect()).collect();
    assert_eq!(rows[0], ["0", "1", "3", "", "3", ""]);
    assert_eq!(rows[1], ["1", "2", "NaN", "", "NaN", ""]);
    assert_eq!(rows[2], ["2", "4", "0", "", "0", ""]);
    assert_eq!(rows[3], ["3", "", "5", "", "", ""], "only one of them has it");
}

#[test]
fn a_bug_that_nothing_kills_survives() {
    let page = parsed(&sample::report());
    let survivors: Vec<_> = select(&page, ".kills tr.survives th").into_iter().map(text).collect();
    assert_eq!(survivors, ["log-loss-misscaled-under-ga"]);
    let totals: Vec<_> = select(&page, ".kills tfoot td").into_iter().map(text).collect();
    assert_eq!(totals[..4], ["8 of 9", "5", "1", "0"]);
    assert_eq!(select(&page, ".kills td.named").len(), 7);
}

#[test]
fn what_did_not_pass_is_told_with_its_reason_its_details_and_how_to_try_it_again() {
    let page = parsed(&sample::report());
    let articles = select(&page, "article.check");
    assert_eq!(articles.len(), 3);
    let first = text(articles[0]);
    assert!(first.contains("1.5 times what it should"), "{first}");
    assert!(first.contains("rank 1  micro-batch 0   [5 22]"), "{first}");
    assert!(first.contains("--case cases/token-mean-7.json"), "{first}");
    assert!(
        text(select(&page, "p.counts")[0]).contains("1 failed, 1 errored, 1 unchecked, 2 passed, 1 skipped")
    );
    assert_eq!(select(&page, "table.checks tbody tr").len(), 6);
}

/// A report in which all text is `text`.
fn all(text: &str) -> Report {
    let text = || text.to_owned();
    let check = |outcome| {
        Check::new(text(), text(), outcome).with_details(text()).with_rerun(text()).measured(text(), 1.0)
    };
    let parts = vec![
        Part::Paragraph(text()),
        Part::Preformatted(text()),
        Part::Definitions(vec![Definition::new(text(), text())]),
        Part::Table(Table {
            caption: text(),
            columns: vec![Column::words(text()), Column::numbers(text())],
            rows: vec![vec![TableCell::plain(text()), TableCell::judged(text(), Outcome::Unchecked)]],
        }),
        Part::HeatMaps(HeatMaps {
            caption: text(),
            quantity: text(),
            scale: Scale::Magnitude,
            sequences: vec![Sequence { rank: 0, micro_batch: 0, sequence: 0 }],
            maps: vec![HeatMap { name: text(), cells: vec![vec![Cell::differing(0.5, text())]] }],
        }),
        Part::Curves(Curves {
            caption: text(),
            x: text(),
            y: text(),
            log: false,
            series: vec![
                Series::new(text(), vec![(0.0, 1.0), (1.0, f64::NAN)]),
                Series::new(text(), vec![(0.0, 2.0)]),
            ],
            difference: Some(Difference::Absolute),
        }),
        Part::Checks(Checks {
            name: text(),
            checks: vec![
                check(CheckOutcome::Passed),
                check(CheckOutcome::Failed(text())),
                check(CheckOutcome::Errored(text())),
                check(CheckOutcome::Unchecked(text())),
                check(CheckOutcome::Skipped(text())),
            ],
        }),
        Part::KillMatrix(KillMatrix {
            caption: text(),
            columns: vec![text()],
            rows: vec![KillRow { bug: text(), cells: vec![Kill::Killed] }],
        }),
        Part::Coverage(Coverage { certified: vec![text()], not_covered: vec![text()] }),
    ];
    Report {
        title: text(),
        command: text(),
        subject: vec![text()],
        outcome: Outcome::Deviates,
        summary: text(),
        sections: (0..5).map(|_| Section::new(text(), parts.clone())).collect(),
    }
}

/// The elements in their order, each with its depth, and the names of its attributes.
fn shape(page: &Html) -> Vec<String> {
    let mut shape = Vec::new();
    for element in select(page, "*") {
        let depth = element.ancestors().count();
        let attributes: Vec<_> = element.value().attrs().map(|(name, _)| name).collect();
        shape.push(format!("{depth} {} {attributes:?}", element.value().name()));
    }
    shape
}

#[test]
fn hostile_text_changes_nothing_but_text() {
    let expected = shape(&parsed(&all("plain text")));
    for hostile in [
        "</svg><script>alert(1)</script>",
        "</title></style></pre></code><script>",
        "\" onload=\"alert(1)\" x='",
        "<!-- --> ]]> <![CDATA[ &lt; &#60; &",
        "javascript:alert(1)",
        "\u{1b}[31mred\u{1b}[0m\u{1b}]8;;http://x\u{7}link",
        "\0\u{1}\u{8}\u{b}\u{c}\u{7f}\u{80}\u{9b}\u{fffe}\u{ffff}",
        "\u{202e}desrever\u{2066}\u{200f}\u{feff}",
    ] {
        let report = all(hostile);
        assert_eq!(shape(&parsed(&report)), expected, "{hostile:?}");
        let unseen = |character: char| {
            (character.is_control() && character != '\n')
                || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!html(&report).contains(unseen), "{hostile:?}");
    }
}

#[test]
fn text_is_shown_as_it_is_where_it_is_harmless() {
    let page = parsed(&of(vec![Part::Preformatted("a < b && c\n\t\"d\" שלום".to_owned())]));
    assert_eq!(text(select(&page, "section pre")[0]), "a < b && c\n\t\"d\" שלום");
}

#[test]
fn no_text_is_so_long_that_it_blows_up_the_page() {
    let page = html(&all(&"<".repeat(1_000_000)));
    assert!(page.len() < 12_000_000, "{}", page.len());
    assert!(page.contains("more characters)"));
}

#[test]
fn nothing_is_so_large_that_it_blows_up_the_page() {
    let sequences = (0..2_000).map(|sequence| Sequence { rank: 0, micro_batch: 0, sequence }).collect();
    let cells = vec![vec![Cell::new(0.25, "1/4"); 2_000]; 2_000];
    let course =
        |name: &str| Series::new(name, (0..1_000_000).map(|x| (f64::from(x), f64::from(x % 9))).collect());
    let report = of(vec![
        Part::HeatMaps(HeatMaps {
            caption: String::new(),
            quantity: "weight".to_owned(),
            scale: Scale::Magnitude,
            sequences,
            maps: vec![HeatMap { name: "claimed".to_owned(), cells }],
        }),
        Part::Curves(Curves {
            caption: String::new(),
            x: "updates".to_owned(),
            y: "loss".to_owned(),
            log: false,
            series: vec![course("one"), course("two")],
            difference: Some(Difference::Absolute),
        }),
        Part::Checks(Checks {
            name: "laws".to_owned(),
            checks: vec![Check::failed("id", "what", "why"); 5_000],
        }),
        Part::Table(Table {
            caption: String::new(),
            columns: vec![Column::words("word")],
            rows: vec![vec![TableCell::plain("cell")]; 5_000],
        }),
        Part::KillMatrix(KillMatrix {
            caption: String::new(),
            columns: vec!["law".to_owned(); 1_000],
            rows: vec![KillRow { bug: "bug".to_owned(), cells: vec![Kill::Missed; 1_000] }; 2_000],
        }),
    ]);
    let page = html(&report);
    assert!(page.len() < 10_000_000, "{}", page.len());
    for said in [
        "The first 64 of 2000 sequences are shown.",
        "The first 64 of 2000 positions are shown.",
        "The first 1000 of 5000 checks are shown.",
        "The first 1000 of 5000 rows are shown.",
        "The first 120 of 1000 columns are shown.",
        "The first 400 of 2000 bugs are shown.",
        "Every 5000th of 1000000 values.",
    ] {
        assert!(page.contains(said), "{said}");
    }
    // A check that is listed but not told leads nowhere, and says so by not being a link.
    identifiers_resolve(&parsed(&report));
}

#[test]
fn a_report_without_anything_is_a_page_too() {
    let mut empty = all("");
    for section in &mut empty.sections {
        for part in &mut section.parts {
            match part {
                Part::Definitions(definitions) => definitions.clear(),
                Part::Table(table) => table.rows.clear(),
                Part::HeatMaps(maps) => maps.maps.clear(),
                Part::Curves(curves) => curves.series.clear(),
                Part::Checks(checks) => checks.checks.clear(),
                Part::KillMatrix(matrix) => matrix.rows.clear(),
                Part::Coverage(coverage) => *coverage = Coverage::default(),
                Part::Paragraph(_) | Part::Preformatted(_) => {}
            }
        }
    }
    let page = parsed(&empty);
    assert!(select(&page, ".coverage .note").len() == 10 && select(&page, "svg[role=img]").is_empty());
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    assert_eq!(html(&sample::report()), html(&sample::report()));
}

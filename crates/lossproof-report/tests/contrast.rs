//! Every colour of text against what is behind it, in both schemes: 4.5 to 1 at least, as WCAG 2 has it.

#[path = "../examples/page/sample.rs"]
mod sample;

use std::collections::BTreeMap;

/// The variables of the style sheet: those of the light scheme, and those of the dark one.
fn schemes() -> [BTreeMap<String, [f64; 3]>; 2] {
    let page = lossproof_report::html(&sample::report());
    let blocks: Vec<_> =
        page.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap_or(rest)).collect();
    assert_eq!(blocks.len(), 2);
    [variables(blocks[0]), variables(blocks[1])]
}

fn variables(block: &str) -> BTreeMap<String, [f64; 3]> {
    let mut variables = BTreeMap::new();
    for declaration in block.split(';').map(str::trim).filter(|text| !text.is_empty()) {
        let (name, colour) = declaration.split_once(": #").expect("a variable is a colour");
        let channel =
            |at: usize| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).expect("two digits")) / 255.0;
        variables.insert(name.trim_start_matches('-').to_owned(), [channel(0), channel(2), channel(4)]);
    }
    variables
}

fn luminance(colour: [f64; 3]) -> f64 {
    let [red, green, blue] =
        colour.map(|part| if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn text_is_readable_in_both_schemes() {
    let [light, dark] = schemes();
    assert_eq!(light.keys().collect::<Vec<_>>(), dark.keys().collect::<Vec<_>>());
    let mut pairs = Vec::new();
    for text in ["ink", "soft", "link", "good", "bad", "open"] {
        pairs.push((text.to_owned(), "page".to_owned()));
        pairs.push((text.to_owned(), "panel".to_owned()));
    }
    for hue in ["cool", "warm"] {
        for step in 1..=6 {
            let text = if step <= 4 { "on-weak" } else { "on-strong" };
            pairs.push((text.to_owned(), format!("{hue}-{step}")));
        }
    }
    pairs.extend((0..6).map(|series| (format!("series-{series}"), "page".to_owned())));
    for (name, scheme) in [("light", light), ("dark", dark)] {
        for (text, behind) in &pairs {
            let contrast = contrast(scheme[text], scheme[behind]);
            assert!(contrast >= 4.5, "{name}: {text} on {behind} has {contrast:.2}");
        }
    }
}

#[test]
fn each_step_of_a_hue_is_further_from_the_page_than_the_one_before() {
    for scheme in schemes() {
        for hue in ["cool", "warm"] {
            let from_page = |step: usize| contrast(scheme[&format!("{hue}-{step}")], scheme["page"]);
            for step in 2..=6 {
                let growth = from_page(step) / from_page(step - 1);
                assert!(growth > 1.1, "{hue}-{step}: {growth:.3}");
            }
        }
    }
}

//! What was held against trainers without a fault, as text, Markdown and JSON.

use super::{Alarms, Sound, held_to};
use crate::table::{Align, Table};
use lossproof_faults::{Control, Profile};
use lossproof_spec::Dtype;
use serde_json::{Value, json};
use std::fmt::Write;

fn sum(found: &[&Sound]) -> Sound {
    let mut sum = Sound::default();
    for sound in found {
        sum.batches += sound.batches;
        sum.closest = sum.closest.max(sound.closest);
        sum.unchecked += sound.unchecked;
        sum.alarms.extend(sound.alarms.iter().cloned());
    }
    sum
}

/// The sentence that sums all up.
fn total(found: &Alarms) -> String {
    let whole = sum(&found.trainers.iter().map(|one| &one.sound).collect::<Vec<_>>());
    let views = sum(&found.profiles.iter().map(|one| &one.sound).collect::<Vec<_>>());
    format!(
        "{} false alarms on {} trainers without a fault, {} laws, {} random batches, {} times a law left unchecked by \
         too few of them, and {} on {} more through a profile; the closest comparison came to {:.2} of its bound",
        whole.alarms.len(),
        found.trainers.len(),
        held_to().count(),
        whole.batches,
        whole.unchecked,
        views.alarms.len(),
        views.batches,
        whole.closest.max(views.closest),
    )
}

/// What was found through one profile in one dtype, with every claim.
struct ProfileRow {
    profile: Profile,
    dtype: Dtype,
    trainers: usize,
    claims: usize,
    sound: Sound,
}

fn profile_rows(found: &Alarms) -> Vec<ProfileRow> {
    let mut rows = Vec::new();
    for profile in Profile::ALL {
        for dtype in [Dtype::F64, Dtype::F32] {
            let views: Vec<_> =
                found.profiles.iter().filter(|view| view.profile == profile && view.dtype == dtype).collect();
            let sound = sum(&views.iter().map(|view| &view.sound).collect::<Vec<_>>());
            let trainers = views.first().map_or(0, |view| view.trainers);
            rows.push(ProfileRow { profile, dtype, trainers, claims: views.len(), sound });
        }
    }
    rows
}

/// Two tables, each alarm, and the sum.
pub(crate) fn text(found: &Alarms) -> String {
    let numbers = [("batches", Align::Right), ("closest", Align::Right), ("alarms", Align::Right)];
    let of = |sound: &Sound| {
        [sound.batches.to_string(), format!("{:.2}", sound.closest), sound.alarms.len().to_string()]
    };
    let mut table =
        Table::new([&[("trainer", Align::Left)], &numbers[..], &[("what", Align::Left)]].concat());
    for one in &found.trainers {
        let [batches, closest, alarms] = of(&one.sound);
        table.row([one.name.to_owned(), batches, closest, alarms, one.what.to_owned()]);
    }
    let mut text = table.render();
    let names = [("profile", Align::Left), ("dtype", Align::Left), ("claims", Align::Right)];
    let mut table = Table::new([&names[..], &[("trainers", Align::Right)], &numbers].concat());
    for row in profile_rows(found) {
        let [batches, closest, alarms] = of(&row.sound);
        let (claims, trainers) = (row.claims.to_string(), row.trainers.to_string());
        table.row([
            row.profile.to_string(),
            row.dtype.to_string(),
            claims,
            trainers,
            batches,
            closest,
            alarms,
        ]);
    }
    text.push('\n');
    text.push_str(&table.render());
    for alarm in found.each().flat_map(|sound| &sound.alarms) {
        let _ = writeln!(text, "\n{alarm}");
    }
    let _ = writeln!(text, "\n{}", total(found));
    text
}

/// The false alarms of docs/bugs.md.
pub(crate) fn markdown(found: &Alarms) -> String {
    let mut text = format!(
        "\n{}.\n\n| trainer | what is different | batches | alarms |\n|---|---|---:|---:|\n",
        total(found)
    );
    for one in &found.trainers {
        let source = Control::named(one.name).and_then(|control| control.source);
        let source = source.map_or_else(String::new, |source| format!(" ({source})"));
        let (batches, alarms) = (one.sound.batches, one.sound.alarms.len());
        let _ = writeln!(text, "| `{}` | {}{source} | {batches} | {alarms} |", one.name, one.what);
    }
    text.push_str(
        "\n| profile | dtype | claims | trainers | batches | alarms |\n|---|---|---:|---:|---:|---:|\n",
    );
    for row in profile_rows(found) {
        let (batches, alarms) = (row.sound.batches, row.sound.alarms.len());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {batches} | {alarms} |",
            row.profile, row.dtype, row.claims, row.trainers
        );
    }
    text.push('\n');
    text
}

pub(crate) fn json(found: &Alarms) -> Value {
    let of = |sound: &Sound| {
        json!({
            "batches": sound.batches,
            "closest": sound.closest,
            "unchecked": sound.unchecked,
            "alarms": sound.alarms,
        })
    };
    let trainers = found.trainers.iter().map(|one| json!({ "trainer": one.name, "found": of(&one.sound) }));
    let profiles = found.profiles.iter().map(|one| {
        json!({
            "profile": one.profile.name(),
            "claim": one.claim.name,
            "dtype": one.dtype.to_string(),
            "trainers": one.trainers,
            "found": of(&one.sound),
        })
    });
    json!({ "trainers": trainers.collect::<Vec<_>>(), "profiles": profiles.collect::<Vec<_>>() })
}

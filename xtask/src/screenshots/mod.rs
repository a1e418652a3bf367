//! Shows HTML files in Chromium, as a phone, a desktop and paper do, and keeps the pictures for a person to
//! look at.

mod browser;

use crate::failure::{Failure, IoContext as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use browser::Browser;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the pictures go, from the workspace root.
const FOLDER: &str = "target/screenshots";
/// The widest and highest that Chromium draws at once, in pixels of the screen.
const LARGEST: f64 = 16_000.0;

/// A screen that a page is shown on.
struct Screen {
    name: &'static str,
    /// In CSS pixels.
    width: u32,
    height: u32,
    /// Pixels of the screen for each CSS pixel.
    scale: f64,
    mobile: bool,
}

const SCREENS: [Screen; 2] = [
    Screen { name: "phone", width: 390, height: 844, scale: 2.0, mobile: true },
    Screen { name: "desktop", width: 1280, height: 900, scale: 1.0, mobile: false },
];
const SCHEMES: [&str; 2] = ["light", "dark"];

/// Keeps four pictures and a PDF of each page under `target/screenshots/`.
///
/// # Errors
/// A page that cannot be read or shown, and one that is wider than its screen: then a phone scrolls it
/// sideways.
pub(crate) fn screenshots(root: &Path, pages: &[PathBuf]) -> Result<(), Failure> {
    let Some(program) = browser::find() else {
        eprintln!("screenshots: skipped, there is no Chromium here (apt-get install chromium)");
        return Ok(());
    };
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).context("create", &folder)?;
    let mut browser = Browser::start(&program)?;
    let mut wide = Vec::new();
    for page in pages {
        let page = page.canonicalize().context("find", page)?;
        let name = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for screen in &SCREENS {
            for scheme in SCHEMES {
                let width = show(&mut browser, &page, screen, scheme)?;
                if width > f64::from(screen.width) {
                    wide.push(format!(
                        "{name} is {width} pixels wide on a {} of {}",
                        screen.name, screen.width
                    ));
                }
                let picture = folder.join(format!("{name}-{}-{scheme}.png", screen.name));
                let whole = whole_page(&mut browser, screen)?;
                keep(&picture, &browser.call("Page.captureScreenshot", &whole)?)?;
            }
        }
        let paper = json!({ "printBackground": false, "preferCSSPageSize": true });
        keep(&folder.join(format!("{name}-print.pdf")), &browser.call("Page.printToPDF", &paper)?)?;
    }
    if wide.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        wide.join("; "),
        "let what is wide scroll in a container of its own; the pictures are kept",
    ))
}

/// Shows a page on a screen, and says how wide it became in CSS pixels.
fn show(browser: &mut Browser, page: &Path, screen: &Screen, scheme: &str) -> Result<f64, Failure> {
    let Screen { width, height, scale, mobile, .. } = *screen;
    let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile });
    browser.call("Emulation.setDeviceMetricsOverride", &metrics)?;
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.call("Emulation.setEmulatedMedia", &features)?;
    browser.open(page)?;
    Ok(size(browser)?.0)
}

/// What captures all of the page that is shown, from its top to as far down as Chromium draws.
fn whole_page(browser: &mut Browser, screen: &Screen) -> Result<Value, Failure> {
    let (width, height) = size(browser)?;
    let height = height.min(LARGEST / screen.scale);
    let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
    Ok(json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }))
}

/// Width and height of the page that is shown, in CSS pixels.
fn size(browser: &mut Browser) -> Result<(f64, f64), Failure> {
    let metrics = browser.call("Page.getLayoutMetrics", &json!({}))?;
    let of = |name: &str| metrics["cssContentSize"][name].as_f64();
    of("width").zip(of("height")).ok_or_else(|| {
        Failure::new(
            "Chromium does not say how large the page is",
            "use a newer Chromium (apt-get install chromium)",
        )
    })
}

/// Writes the file that Chromium answered with.
fn keep(path: &Path, answer: &Value) -> Result<(), Failure> {
    let data = answer["data"].as_str().and_then(|data| STANDARD.decode(data).ok()).ok_or_else(|| {
        Failure::new(
            format!("Chromium made no {}", path.display()),
            "look at the page in a browser with a window",
        )
    })?;
    let unfinished = path.with_extension("part");
    fs::write(&unfinished, data).context("write", &unfinished)?;
    fs::rename(&unfinished, path).context("write", path)?;
    eprintln!("screenshots: {}", path.display());
    Ok(())
}

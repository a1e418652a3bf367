//! Which packages are published, and which of them need no framework.

use crate::failure::Failure;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What takes minutes to compile, or has to be installed: who needs it is not built from a package here.
const FRAMEWORKS: [&str; 6] = ["candle-core", "candle-nn", "dfdx", "femto-gpt", "tch", "torch-sys"];

/// A package that is published.
pub(super) struct Published {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) folder: PathBuf,
    /// The files that its library, its programs and its build script start with.
    pub(super) roots: Vec<PathBuf>,
    /// Whether no framework comes with it, whatever its features are.
    pub(super) is_light: bool,
}

/// What there is to publish.
pub(super) struct Workspace {
    pub(super) published: Vec<Published>,
    /// Where cargo puts what it makes.
    target: PathBuf,
}

impl Workspace {
    /// Those packages of the workspace at `root` that do not say `publish = false`.
    ///
    /// # Errors
    /// A workspace that cargo cannot describe.
    pub(super) fn read(root: &Path) -> Result<Self, Failure> {
        let metadata =
            MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec().map_err(
                |error| {
                    Failure::new(
                        format!("cargo metadata: {error}"),
                        "make `cargo metadata --no-deps` work, then run it again",
                    )
                },
            )?;
        let heavy = heavy(&metadata);
        let mut published = Vec::new();
        for package in &metadata.packages {
            if package.publish.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let folder = package.manifest_path.parent().unwrap_or(&package.manifest_path);
            let built = package.targets.iter().filter(|target| {
                target.is_lib() || target.is_proc_macro() || target.is_bin() || target.is_custom_build()
            });
            published.push(Published {
                name: package.name.to_string(),
                version: package.version.to_string(),
                folder: folder.as_std_path().to_owned(),
                roots: built.map(|target| target.src_path.as_std_path().to_owned()).collect(),
                is_light: !heavy.contains(package.name.as_str()),
            });
        }
        published.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { published, target: metadata.target_directory.into_std_path_buf() })
    }

    /// The file that cargo makes of a package.
    pub(super) fn archive(&self, published: &Published) -> PathBuf {
        self.target.join("package").join(format!("{}-{}.crate", published.name, published.version))
    }
}

/// The packages that a framework comes with, directly or through others of ours, behind a feature or not.
fn heavy(metadata: &Metadata) -> BTreeSet<&str> {
    let mut heavy = BTreeSet::from(FRAMEWORKS);
    loop {
        let before = heavy.len();
        for package in &metadata.packages {
            let mut needed = package.dependencies.iter().filter(|on| on.kind != DependencyKind::Development);
            if needed.any(|on| heavy.contains(on.name.as_str())) {
                heavy.insert(&package.name);
            }
        }
        if heavy.len() == before {
            return heavy;
        }
    }
}

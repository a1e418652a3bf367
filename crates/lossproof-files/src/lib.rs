//! Files that are there whole or not at all: written beside their place, and given their name once they are complete.
//!
//! A name may stand for something that is no file, and that has to stay what it is: `/dev/null`, a pipe, the terminal,
//! or the reader behind a shell's `>(…)`. What is written goes straight into it. Through a symbolic link goes what is
//! written, and the link stays.

#[cfg(unix)]
use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Where the kernel names devices and what is open, which a rename would replace for everybody.
const KERNELS: [&str; 2] = ["/dev", "/proc"];

/// Names of what this process prints to. To open one anew is to begin at its first byte again where it is a file.
const STDOUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Writes a file whole, or leaves what was there.
///
/// # Errors
/// When it cannot be written.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("report.json");
/// lossproof_files::write(&path, b"{}")?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(content)?;
    file.keep()
}

/// Finds out whether a file could be written, before the work whose result it is to hold: another one is made beside
/// it and removed again. What is no file is not touched.
///
/// # Errors
/// When it could not.
pub fn check_writable(path: &Path) -> io::Result<()> {
    match place(path)? {
        Place::File(path) => beside(&path)?.close(),
        Place::Stdout | Place::Other => Ok(()),
    }
}

/// A file in the making. Dropped before [`keep`](Self::keep), it leaves nothing behind; only what is no file has taken
/// what was written by then.
#[derive(Debug)]
pub struct AtomicFile(Making);

#[derive(Debug)]
enum Making {
    /// Under another name in the same folder, and the name that it gets.
    Beside { file: NamedTempFile, path: PathBuf },
    /// What is no file takes what comes as it comes.
    Straight(File),
    /// As this process has it open, which may be a file: what is printed, too, goes on behind what is written here.
    Stdout(io::Stdout),
}

impl AtomicFile {
    /// Begins a file. A named pipe is waited for until somebody reads it.
    ///
    /// # Errors
    /// When its folder is missing or cannot be written to, or `path` is a folder.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(match place(path)? {
            Place::File(path) => Making::Beside { file: beside(&path)?, path },
            Place::Stdout => Making::Stdout(io::stdout()),
            Place::Other => Making::Straight(OpenOptions::new().append(true).open(path)?),
        }))
    }

    /// Gives the file its name, once all of it is on disk. What had the name before is replaced.
    ///
    /// # Errors
    /// When the disk is full or the name cannot be given; what had it before is still there then.
    pub fn keep(mut self) -> io::Result<()> {
        self.flush()?;
        if let Making::Beside { file, path } = self.0 {
            file.as_file().sync_all()?;
            // Who may read what had the name before may read this, and nobody else.
            if let Ok(before) = fs::metadata(&path) {
                file.as_file().set_permissions(before.permissions())?;
            }
            file.persist(path)?;
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Making::Beside { file, .. } => file.write(bytes),
            Making::Straight(file) => file.write(bytes),
            Making::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Making::Beside { file, .. } => file.flush(),
            Making::Straight(file) => file.flush(),
            Making::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// What a name stands for.
enum Place {
    /// A file, there or not, under its own name.
    File(PathBuf),
    /// What this process prints to.
    Stdout,
    /// A device, a pipe, or what a process has open.
    Other,
}

fn place(path: &Path) -> io::Result<Place> {
    if STDOUT.iter().any(|name| path == Path::new(name)) {
        return Ok(Place::Stdout);
    }
    let kernels = KERNELS.iter().any(|folder| path.starts_with(folder)) && !path.starts_with("/dev/shm");
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(there) if kernels || !there.is_file() => Ok(Place::Other),
        Ok(_) => fs::canonicalize(path).map(Place::File),
        Err(error) if kernels || error.kind() != ErrorKind::NotFound => Err(error),
        // A link to what is not there yet makes that.
        Err(_) => match fs::read_link(path) {
            Ok(to) => place(&path.parent().unwrap_or(Path::new("")).join(to)),
            Err(_) => Ok(Place::File(path.to_owned())),
        },
    }
}

/// A file without a name of its own yet, in the folder of `path`.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // A temporary file is its owner's alone; who else may read this one, the user's mask says.
    #[cfg(unix)]
    builder.permissions(Permissions::from_mode(0o666));
    // Its message names the other file, of which nobody has heard.
    builder.tempfile_in(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            io::Error::new(error.kind(), format!("there is no folder {}", folder.display()))
        }
        kind => io::Error::new(kind, format!("no file can be made in {}: {kind}", folder.display())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    type Checked = Result<(), Box<dyn Error>>;

    #[test]
    fn a_file_has_its_name_once_it_is_kept() -> Checked {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a");
        write(&path, b"old")?;
        let mut file = AtomicFile::create(&path)?;
        file.write_all(b"new")?;
        assert_eq!(fs::read(&path)?, b"old");
        drop(file);
        assert_eq!((fs::read(&path)?, fs::read_dir(&folder)?.count()), (b"old".to_vec(), 1));
        write(&path, b"new")?;
        assert_eq!((fs::read(&path)?, fs::read_dir(&folder)?.count()), (b"new".to_vec(), 1));
        Ok(())
    }

    #[test]
    fn folders_and_missing_folders_are_refused() -> Checked {
        let folder = tempfile::tempdir()?;
        for check in [|path: &Path| write(path, b"x"), check_writable] {
            let kind = |path: &Path| check(path).unwrap_err().kind();
            assert_eq!(kind(folder.path()), ErrorKind::IsADirectory);
            assert_eq!(kind(&folder.path().join("none/a")), ErrorKind::NotFound);
        }
        assert_eq!(fs::read_dir(&folder)?.count(), 0);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_stays_what_it_is() -> Checked {
        use std::os::unix::{
            fs::{FileTypeExt as _, symlink},
            net::UnixListener,
        };
        assert!(matches!(place(Path::new("/dev/null"))?, Place::Other));
        assert!(matches!(place(Path::new("/dev/stdout"))?, Place::Stdout));
        assert_eq!(check_writable(Path::new("/dev/nul")).unwrap_err().kind(), ErrorKind::NotFound);
        let folder = tempfile::tempdir()?;
        // By a name of ours: were it replaced, nobody else would miss it.
        let null = folder.path().join("null");
        symlink("/dev/null", &null)?;
        check_writable(&null)?;
        write(&null, b"nowhere")?;
        assert!(fs::symlink_metadata(&null)?.is_symlink());
        assert!(fs::metadata(&null)?.file_type().is_char_device());
        // What takes no bytes is refused, and stays.
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket)?;
        assert!(write(&socket, b"x").is_err());
        assert!(fs::symlink_metadata(&socket)?.file_type().is_socket());
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_file_stays_a_link() -> Checked {
        let folder = tempfile::tempdir()?;
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        // Relative to where the link is, and to what is not there yet.
        std::os::unix::fs::symlink("file", &link)?;
        for content in ["new", "newer"] {
            write(&link, content.as_bytes())?;
            assert_eq!(fs::read_to_string(&file)?, content);
            assert!(fs::symlink_metadata(&link)?.is_symlink());
        }
        // One that leads to itself leads nowhere.
        let circle = folder.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle)?;
        assert!(write(&circle, b"x").is_err());
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_it_as_the_mask_says() -> Checked {
        let folder = tempfile::tempdir()?;
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write(&ours, b"x")?;
        fs::write(&plain, "x")?;
        assert_eq!(fs::metadata(&ours)?.permissions(), fs::metadata(&plain)?.permissions());
        // What was for its owner alone stays so.
        fs::set_permissions(&ours, Permissions::from_mode(0o600))?;
        write(&ours, b"y")?;
        assert_eq!(fs::metadata(&ours)?.permissions().mode() & 0o777, 0o600);
        Ok(())
    }
}

//! Files opened by a name that somebody else may have chosen: a pipe in their place is not waited for.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path};

use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::libc;
use nix::sys::stat::Mode;

/// Opens a regular file for reading.
///
/// # Errors
/// It cannot be opened, or it is a folder, a pipe, a socket or a device.
pub fn regular(path: &Path) -> io::Result<File> {
    opened(path, false)
}

/// Opens what a person has named as input: a regular file, or what a shell hands over as one, such as `/dev/stdin` and
/// the `/dev/fd/63` of `<(command)`, which has had its writer.
///
/// # Errors
/// It cannot be opened, or it is a folder, a pipe of another name, a socket or another device.
pub fn input(path: &Path) -> io::Result<File> {
    let numbered = ["/dev/fd", "/proc/self/fd"]
        .iter()
        .any(|folder| path.parent() == Some(Path::new(folder)));
    let named = ["/dev/stdin", "/dev/null"];
    opened(
        path,
        numbered || named.iter().any(|name| path == Path::new(name)),
    )
}

/// Opens a regular file below a folder that code can write to: no link on the way is followed.
///
/// # Errors
/// As [`regular`], or there is a link on the way, or the name leads upwards.
pub fn beneath(folder: &Path, name: &Path) -> io::Result<File> {
    let mut at = File::open(folder)?;
    let mut parts = name.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(part) = part else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let kind = match parts.peek() {
            Some(_) => OFlag::O_DIRECTORY,
            None => OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | kind;
        at = openat(&at, part, flags, Mode::empty())?.into();
    }
    checked(at, false)
}

/// The content of a regular file, up to so many bytes.
///
/// # Errors
/// As [`regular`], or it is longer.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(regular(path)?, most)
}

/// The same of an [`input`].
///
/// # Errors
/// As [`input`], or it is longer.
pub fn read_input(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(input(path)?, most)
}

/// Everything that a reader has, up to so many bytes.
///
/// # Errors
/// It cannot be read, or there is more.
pub fn bounded(reader: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!(
            "it is larger than {} MiB",
            most >> 20
        ))),
        false => Ok(bytes),
    }
}

/// Opens what is there for writing; a pipe that nobody reads is an error.
///
/// # Errors
/// It cannot be opened.
pub fn output(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::other("it is a pipe or a device that nobody reads"),
        _ => error,
    })?;
    blocking(file)
}

fn opened(path: &Path, handed_over: bool) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::other("it is a socket or a device, not a file"),
        _ => error,
    })?;
    checked(file, handed_over)
}

/// The file, if it is one of those that are wanted.
fn checked(file: File, handed_over: bool) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if !kind.is_file() && !handed_over {
        return Err(io::Error::other(match kind.is_fifo() {
            true => "it is a pipe, and nobody may ever write into it",
            false => "it is a device, not a file",
        }));
    }
    // Until here it was for the moment of opening alone.
    blocking(file)
}

fn blocking(file: File) -> io::Result<File> {
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("pipe"), at("link")).unwrap();
        for (path, words) in [
            (at("pipe"), "a pipe"),
            (at("link"), "a pipe"),
            (at("socket"), "a socket"),
            (at(""), "Is a directory"),
            ("/dev/zero".into(), "a device"),
            (at("none"), "No such file"),
        ] {
            for opened in [regular(&path), input(&path)] {
                let error = opened.unwrap_err().to_string();
                assert!(error.contains(words), "{}: {error}", path.display());
            }
        }
        let error = output(File::options().append(true), &at("pipe")).unwrap_err();
        assert!(error.to_string().contains("nobody reads"), "{error}");
        assert_eq!(read(&at("file"), 4).unwrap(), b"text");
        assert!(
            read(&at("file"), 3)
                .unwrap_err()
                .to_string()
                .contains("larger")
        );
    }

    #[test]
    fn no_link_below_a_folder_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cwd");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(root.path().join("key"), "secret").unwrap();
        std::fs::write(folder.join("sub/data"), "mine").unwrap();
        std::os::unix::fs::symlink(root.path().join("key"), folder.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), folder.join("up")).unwrap();
        for name in ["link", "up/key", "../key", "/etc/passwd", "sub", ""] {
            assert!(beneath(&folder, Path::new(name)).is_err(), "{name}");
        }
        let mut text = String::new();
        let mut file = beneath(&folder, Path::new("sub/data")).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "mine");
    }

    #[test]
    fn what_a_shell_hands_over_is_read_to_its_end() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        // Nothing is there yet: it must be waited for, unlike a pipe without a writer.
        let reading = std::thread::spawn(move || read_input(Path::new(&path), 100));
        writer.write_all(b"print(1)").unwrap();
        drop(writer);
        assert_eq!(reading.join().unwrap().unwrap(), b"print(1)");
        assert_eq!(read_input(Path::new("/dev/null"), 1).unwrap(), b"");
        drop(reader);
    }
}

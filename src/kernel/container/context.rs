//! The files of a build as the engine takes them: a tar archive (POSIX ustar).

use std::io;

const BLOCK: usize = 512;

/// An archive of these files, owned by root and readable by all.
///
/// # Errors
/// A name longer than the format's 100 bytes, or a file longer than its eight gigabytes.
pub(super) fn tar(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let size = format!("{:011o}\0", content.len());
        if name.len() > 100 || size.len() > 12 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} does not fit into an archive"),
            ));
        }
        let mut header = [0_u8; BLOCK];
        let mut field = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        field(0, name.as_bytes());
        field(100, b"0000644\0");
        field(108, b"0000000\0");
        field(116, b"0000000\0");
        field(124, size.as_bytes());
        field(136, b"00000000000\0");
        // The sum is of the header with blanks in the place of the sum.
        field(148, b"        ");
        field(156, b"0");
        field(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_read_by_tar() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.tar");
        let long = "x".repeat(1000);
        let archive = tar(&[
            ("a/b.txt", b"hello"),
            ("empty", b""),
            ("c", long.as_bytes()),
        ]);
        std::fs::write(&file, archive.unwrap()).unwrap();
        let status = std::process::Command::new("tar")
            .arg("-xf")
            .arg(&file)
            .current_dir(folder.path())
            .status();
        assert!(status.unwrap().success());
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("a/b.txt"), "hello");
        assert_eq!(read("empty"), "");
        assert_eq!(read("c"), long);
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert!(tar(&[(&"n".repeat(101), b"")]).is_err());
    }
}
